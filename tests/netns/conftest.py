"""Tests of hosts that lose one another. They need root and network namespaces, and are skipped where these aren't."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "postgres"))
sys.path.insert(0, str(Path(__file__).parents[1] / "journal"))
