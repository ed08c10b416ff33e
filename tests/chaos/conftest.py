"""The harness is no part of the package: its folder is put where it can be imported from."""

from __future__ import annotations
