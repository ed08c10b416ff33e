"""The child process of `LoopbackProvider(process=True)`.

`desist.testing.provider.remote` runs it as `python -m desist.testing.provider.remote_main DESCRIPTOR`.

Commands arrive over the connection with this descriptor, and changes of the log are sent over it. Token counts are sent
at the first token, at the end, and every 5 ms in between. The child ends when the connection closes: the parent has
ended.
"""

from __future__ import annotations

import asyncio
import sys
from multiprocessing.connection import Connection
from typing import Any

from desist.testing.provider.exchange import ExchangeLog
from desist.testing.provider.replies import Reply
from desist.testing.provider.server import ProviderServer

_LAG = 0.005  # seconds between two reports of a token count
_COUNTS = {"index", "tokens_sent", "tokens_sent_after_close"}


class Reporter:
    """Sends changes of the log, token counts at most every `_LAG` seconds."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection
        self._pending: dict[int, dict[str, Any]] = {}
        self._started: set[int] = set()
        self.log = ExchangeLog(lambda index, verb: None, self._report)

    def _report(self, kind: str, fields: dict[str, Any]) -> None:
        if kind != "update":
            self._connection.send((kind, fields))
            return
        index = fields["index"]
        pending = self._pending.setdefault(index, {})
        if not pending:
            asyncio.get_running_loop().call_later(_LAG, self._flush, index)
        pending.update(fields)
        if fields.keys() != _COUNTS or index not in self._started:
            self._started.add(index)
            self._flush(index)

    def _flush(self, index: int) -> None:
        pending = self._pending.pop(index, None)
        if pending:
            if pending.get("over"):
                pending["writes"] = self.log.exchanges[index].writes
            self._connection.send(("update", pending))


async def main(connection: Connection[Any, Any]) -> None:
    """Serve until the parent says so or has ended."""
    port, tls = connection.recv()
    server = ProviderServer(Reporter(connection).log, Reply())
    try:
        connection.send(await server.start(port, tls))
    except OSError as error:
        connection.send(str(error))
        return
    stopping = asyncio.Event()

    def on_command() -> None:
        try:
            command = connection.recv()
        except (EOFError, OSError):
            command = None
        if command is None:
            loop.remove_reader(connection.fileno())
            stopping.set()
            return
        verb, arguments = command
        getattr(server, verb)(**arguments)
        connection.send(("done", {}))

    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), on_command)
    await stopping.wait()
    await server.stop()


if __name__ == "__main__":
    try:
        asyncio.run(main(Connection(int(sys.argv[1]))))
    except BrokenPipeError:  # the parent is gone
        pass
