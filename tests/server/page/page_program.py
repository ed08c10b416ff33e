"""A program for `desist serve` in a test that kills it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `desist serve` loads this file by its path

from page_workflows import endless as make

endless = make()
