"""Reading the notes while they are being written: which runs there are, for those who look and follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["Tail"]


class Tail:
    """The end of the notes: what has come since the last look."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, encoding="utf-8")  # noqa: SIM115  # kept until `close`
        self._kept = ""

    def read(self, *what: str) -> list[dict[str, Any]]:
        """Return the new notes of these kinds."""
        *whole, self._kept = (self._kept + self._file.read()).split("\n")
        wanted = [f'"what": "{kind}"' for kind in what]
        return [json.loads(line) for line in whole if any(word in line for word in wanted)]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
