"""Tests of hosts that lose one another. They need root and network namespaces, and are skipped where these aren't."""

from __future__ import annotations
