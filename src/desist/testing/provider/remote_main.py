"""The child process of `LoopbackProvider(process=True)`.

`desist.testing.provider.remote` runs it as `python -m desist.testing.provider.remote_main`.

Commands arrive as JSON lines on stdin; changes of the log are sent as JSON lines on stdout. Token counts are sent at
the first token, at the end, and every 5 ms in between. The child ends at the end of stdin: the parent has ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from desist.testing.provider.exchange import ExchangeLog
from desist.testing.provider.replies import Reply
from desist.testing.provider.server import ProviderServer

_LAG = 0.005  # seconds between two reports of a token count
_COUNTS = {"index", "tokens_sent", "tokens_sent_after_close"}


class Reporter:
    """Writes changes of the log to stdout, token counts at most every `_LAG` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: dict[int, dict[str, Any]] = {}
        self._started: set[int] = set()
        self.log: ExchangeLog | None = None

    def report(self, kind: str, fields: dict[str, Any]) -> None:
        """Report one change of the log."""
        if kind != "update":
            self._write(kind, fields)
            return
        index = fields["index"]
        pending = self._pending.setdefault(index, {})
        if not pending:
            self._loop.call_later(_LAG, self._flush, index)
        pending.update(fields)
        if fields.keys() != _COUNTS or index not in self._started:
            self._started.add(index)
            self._flush(index)

    def _flush(self, index: int) -> None:
        pending = self._pending.pop(index, None)
        if pending:
            if pending.get("over") and self.log is not None:
                pending["writes"] = self.log.exchanges[index].writes
            self._write("update", pending)

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        print(json.dumps([kind, fields]), flush=True)


async def main() -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    config = json.loads(await commands.readline())
    reporter = Reporter(loop)
    log = reporter.log = ExchangeLog(lambda index, verb: None, reporter.report)
    server = ProviderServer(log, Reply())
    try:
        port = await server.start(config["port"], config["tls"] and tuple(config["tls"]))
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"port": port}), flush=True)
    while line := await commands.readline():
        command = json.loads(line)
        getattr(server, command["verb"])(**_replies(command["arguments"]))
        print('["done", {}]', flush=True)
    await server.stop()


def _replies(arguments: dict[str, Any]) -> dict[str, Any]:
    if "reply" in arguments:
        arguments["reply"] = Reply.from_json(arguments["reply"])
    if "replies" in arguments:
        arguments["replies"] = [Reply.from_json(data) for data in arguments["replies"]]
    return arguments


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except BrokenPipeError:  # the parent is gone
        sys.stderr.close()
