"""AG-UI's own client, which verifies our streams."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Judge:
    """A node process with AG-UI's own client. One question per line, one answer per line."""

    def __init__(self, packages: Path) -> None:
        command = ["node", str(HERE / "agui_reference_client.mjs"), str(packages)]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send a question, and wait for the answer."""
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.write(json.dumps(question) + "\n")
        self._node.stdin.flush()
        answer: dict[str, Any] = json.loads(self._node.stdout.readline())
        return answer

    def verify(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Verify a recorded stream by schema and rules; return the messages that a client makes of it."""
        answer = self.ask(verify=events)
        assert answer["error"] is None, answer["error"]
        messages: list[dict[str, Any]] = answer["messages"]
        return messages

    def close(self) -> None:
        """End the process."""
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.close()
        self._node.wait(30)
        self._node.stdout.close()
