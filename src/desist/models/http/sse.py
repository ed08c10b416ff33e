"""Parser for server-sent events from arbitrary chunks of bytes.

Called by `stream_reader`, and by the commands that follow a run of a server. Only `data` matters here, and whether the
event's name says that it is an error: comments, other names, ids and retry fields are skipped.
"""

from __future__ import annotations

from desist.exceptions import ModelResponseError

__all__ = ["ErrorEvent", "SseParser"]

MAX_EVENT = 64 * 1024 * 1024  #: bytes; a longer event is refused
_BOM = b"\xef\xbb\xbf"


class ErrorEvent(bytes):
    """The data of an event that is named an error."""


class SseParser:
    """Parses bytes into the data of events. Lines may end with LF, CR or CRLF."""

    __slots__ = ("_after_cr", "_data", "_error", "_first", "_size", "_tail")

    def __init__(self) -> None:
        self._tail: list[bytes] = []  # pieces of the incomplete line
        self._size = 0
        self._data: list[bytes] = []  # data lines of the incomplete event
        self._after_cr = False  # the last byte was CR: ignore a following LF
        self._first = True
        self._error = False  # the incomplete event is named an error

    def feed(self, received: bytes) -> list[bytes]:
        """Return the data of the events that `received` completes.

        Raises:
            ModelResponseError: an event is longer than 64 MiB.
        """
        if self._after_cr or b"\r" in received:
            received = self._one_kind_of_end(received)
        cut = received.rfind(b"\n")
        if cut < 0:
            self._keep(received)
            return []
        self._tail.append(received[:cut])
        lines = b"".join(self._tail).split(b"\n")
        self._tail, self._size = [], sum(map(len, self._data))
        self._keep(received[cut + 1 :])
        return self._events(lines)

    def finish(self) -> list[bytes]:
        """Return the data of an event that the end of the stream cut off, if there is any."""
        return self._events([b"".join(self._tail), b""])

    def _one_kind_of_end(self, received: bytes) -> bytes:
        if self._after_cr and received:
            received = received.removeprefix(b"\n")
            self._after_cr = False
        if received:
            self._after_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._tail.append(piece)
            self._size += len(piece)
            if self._size > MAX_EVENT:
                raise ModelResponseError(f"the server sent an event of more than {MAX_EVENT} bytes")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        if self._first:
            lines[0] = lines[0].removeprefix(_BOM)
            self._first = False
        for line in lines:
            if not line:
                if data:
                    event = data[0] if len(data) == 1 else b"\n".join(data)
                    events.append(ErrorEvent(event) if self._error else event)
                    data.clear()
                self._error = False
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line.startswith(b"event:"):
                self._error = b"error" in line
        return events
