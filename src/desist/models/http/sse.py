"""Parser for server-sent events from arbitrary chunks of bytes.

Called by `stream_reader`, and by the commands that follow a run of a server. Only `data` matters here, and whether the
event's name says that it is an error: comments, other names, ids and retry fields are skipped.
"""

from __future__ import annotations

from desist.exceptions import ModelResponseError

__all__ = ["SseParser"]

MAX_EVENT = 64 * 1024 * 1024  #: bytes; a longer event is refused
_BOM = b"\xef\xbb\xbf"


class SseParser:
    """Parses bytes into the data of events. Lines may end with LF, CR or CRLF.

    `error` is the data of the first event that is named an error. Events after it are left out.
    """

    __slots__ = ("_after_cr", "_counted", "_data", "_data_size", "_first", "_is_error", "_tail", "_tail_size", "error")

    def __init__(self) -> None:
        self._tail: list[bytes] = []  # pieces of the incomplete line
        self._tail_size = 0
        self._data: list[bytes] = []  # data lines of the incomplete event
        self._data_size = self._counted = 0  # bytes of the first `_counted` of them
        self._after_cr = False  # the last byte was CR: ignore a following LF
        self._first = True
        self._is_error = False  # the incomplete event is named an error
        self.error: bytes | None = None

    def feed(self, received: bytes) -> list[bytes]:
        """Return the data of the events that `received` completes.

        Raises:
            ModelResponseError: an event is longer than 64 MiB.
        """
        if self._after_cr or b"\r" in received:
            received = self._one_kind_of_end(received)
        if not self._tail and received.endswith(b"\n"):  # whole lines, nearly always
            return self._events(received[:-1])
        cut = received.rfind(b"\n")
        if cut < 0:
            self._keep(received)
            return []
        self._tail.append(received[:cut])
        block = b"".join(self._tail)
        self._tail, self._tail_size = [], 0
        events = self._events(block)
        self._keep(received[cut + 1 :])
        return events

    def finish(self) -> list[bytes]:
        """Return the data of an event that the end of the stream cut off, if there is any."""
        return self._events(b"".join(self._tail) + b"\n")

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
            self._tail_size += len(piece)
            self._limit()

    def _limit(self) -> None:
        new = self._data[self._counted :]
        self._data_size += sum(map(len, new)) + len(new)
        self._counted = len(self._data)
        if self._tail_size + self._data_size > MAX_EVENT:
            raise ModelResponseError(f"the server sent an event of more than {MAX_EVENT} bytes")

    def _events(self, block: bytes) -> list[bytes]:
        events: list[bytes] = []
        data, lines = self._data, block.split(b"\n")
        if self._first:
            lines[0] = lines[0].removeprefix(_BOM)
            self._first = False
        errors = self._is_error or b"error" in block  # else names needn't be looked at
        for line in lines:
            if not line:
                if errors and self._is_error and data:
                    self.error = b"\n".join(data)
                    break
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    if self._counted:
                        self._counted = self._data_size = 0
                if errors:
                    self._is_error = False
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif errors and line.startswith(b"event:"):
                self._is_error = b"error" in line
        if data:
            self._limit()
        return events
