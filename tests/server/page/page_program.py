"""A program that `desist serve` serves in a test: it must be killed."""

from __future__ import annotations

from page_workflows import endless as make

endless = make()
