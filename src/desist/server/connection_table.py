"""The open connections of a server: how many there may be, and which one is closed for another.

Knows no sockets and no HTTP: a connection is anything with an address that can be dropped. On the server's loop.

A connection *waits* until a whole request has come: nothing yet, half of the headers, or the headers and half of the
body. Who waits can be closed for somebody else, the oldest first, and of the address that has the most of them, so that
one address can't push out another's. What isn't closed is a request that is being answered. These may have all
connections but a few, which are kept for cancels.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from enum import Enum
from typing import Protocol

__all__ = ["ConnectionTable", "State", "network_of", "room_for_connections"]

log = logging.getLogger("desist.server")
#: Connections that are accepted in one turn of the loop. Those that are closed for them have their descriptors until
#: the next turn, so as many descriptors are kept free.
TURN = 8


class State(Enum):
    """What a connection is at."""

    headers = "headers"  #: no request, or half of its headers
    body = "body"  #: half of a body: the request is counted already
    busy = "busy"  #: a request that is being answered


class Droppable(Protocol):
    """A connection."""

    network: str

    def drop(self) -> None:
        """Close it at once."""


class ConnectionTable:
    """Counts connections, and makes room.

    Parameters:
        total: how many there may be.
        reserved: how many of them are for cancels only.
        per_address: how many of an address there may be, those for cancels aside.
    """

    def __init__(self, total: int, reserved: int, per_address: int) -> None:
        self._total, self._reserved, self._per_address = total, reserved, per_address
        self._accepted: dict[int, str] = {}  #: by descriptor: accepted, and not yet a connection
        self._states: dict[Droppable, State] = {}
        self._waiting: dict[str, dict[Droppable, None]] = {}  #: by network; the oldest first
        self._of: Counter[str] = Counter()  #: connections by network
        self._requests: Counter[str] = Counter()  #: requests whose headers have come, by network

    def __len__(self) -> int:
        return len(self._states) + len(self._accepted)

    # -- connections

    def accept(self, descriptor: int, network: str) -> bool:
        """Count one more, and close another for it if need be; False: there is no room, close it.

        A descriptor that never became a connection is forgotten when its number comes again.
        """
        self._accepted.pop(descriptor, None)
        if self._of[network] >= self._per_address:
            self._drop_oldest(network, "as many as an address may have are open")
        if len(self) >= self._total and not self.drop_oldest("as many as there may be are open"):
            log.warning("a connection was refused: every connection has a request that is being answered")
            return False
        self._accepted[descriptor] = network
        return True

    def open(self, connection: Droppable, descriptor: int) -> None:
        """An accepted socket has become a connection."""
        self._accepted.pop(descriptor, None)
        self._states[connection] = State.headers
        self._of[connection.network] += 1
        self._wait(connection)

    def close(self, connection: Droppable) -> None:
        """A connection is gone. Twice is fine: it may have been dropped before."""
        state = self._states.pop(connection, None)
        if state is None:
            return
        self._leave(connection, state)
        _less(self._of, connection.network)

    def drop_oldest(self, why: str) -> bool:
        """Close the connection that has waited for longest, of the address that has the most; False: none waits."""
        if not self._waiting:
            return False
        return self._drop_oldest(max(self._waiting, key=lambda network: len(self._waiting[network])), why)

    def _drop_oldest(self, network: str, why: str, state: State | None = None) -> bool:
        for connection in self._waiting.get(network, ()):
            if state in (None, self._states[connection]):
                log.warning("the oldest connection without a whole request was closed: %s", why)
                self.close(connection)
                connection.drop()
                return True
        return False

    # -- requests

    def admit(self, connection: Droppable, *, cancels: bool) -> bool:
        """Whether the request whose headers have just come is answered; for a cancel there is always room."""
        state = self._states.get(connection)
        if state is not State.headers:
            return state is not None
        if not cancels and not self._has_room(connection.network):
            log.warning("a request was refused: as many as there may be are being answered")
            return False
        self._leave(connection, state)
        self._states[connection] = State.body
        self._requests[connection.network] += 1
        self._wait(connection)
        return True

    def _has_room(self, network: str) -> bool:
        """Whether one more request fits, perhaps in the place of one whose body has come in half."""
        why = "as many requests as there may be are open"
        if self._requests[network] >= self._per_address and not self._drop_oldest(network, why, State.body):
            return False
        if self._requests.total() < self._total - self._reserved:
            return True
        heaviest = sorted(self._waiting, key=lambda one: len(self._waiting[one]), reverse=True)
        return any(self._drop_oldest(one, why, State.body) for one in heaviest)

    def change(self, connection: Droppable, state: State) -> None:
        """A connection that was admitted has its whole request, or has answered it."""
        before = self._states.get(connection)
        if before in (None, state):
            return
        assert before is not None
        self._leave(connection, before)
        self._states[connection] = state
        if state is not State.headers:
            self._requests[connection.network] += 1
        if state is not State.busy:
            self._wait(connection)

    def _wait(self, connection: Droppable) -> None:
        self._waiting.setdefault(connection.network, {})[connection] = None

    def _leave(self, connection: Droppable, state: State) -> None:
        if state is not State.headers:
            _less(self._requests, connection.network)
        waiting = self._waiting.get(connection.network, {})
        waiting.pop(connection, None)
        if not waiting:
            self._waiting.pop(connection.network, None)


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def network_of(address: str) -> str:
    """Return under which name an address is counted: IPv6 by its /64, which is what one client has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def room_for_connections(descriptors: int, used: int) -> int:
    """Return how many connections fit where so many descriptors may be open and so many are."""
    return descriptors - used - descriptors // 4 - TURN
