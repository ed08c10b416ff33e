"""The open connections of a server: their limits, and which one is closed to make room for another.

Knows no sockets and no HTTP: a connection is an object with a network and a `drop` method. All methods run on the
server's loop.

A connection *waits* until it has received a complete request: it has sent nothing, a part of the headers, or a part of
the body. Only waiting connections are closed for others: the oldest one, of the network that has the most, so that one
network can't displace another's. A request that is being answered is never closed. Such requests may use all
connections except a few that are reserved for cancel requests.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import Counter
from enum import Enum
from typing import Protocol

__all__ = ["ConnectionTable", "State", "network_of", "room_for_connections"]

log = logging.getLogger("desist.server")
#: Connections accepted in one iteration of the loop. A connection that is closed for another one keeps its descriptor
#: until the next iteration, so this many descriptors are kept free.
TURN = 8


class State(Enum):
    """The state of a connection."""

    headers = "headers"  #: no request yet, or a part of its headers
    body = "body"  #: the headers and a part of the body: counted as a request
    busy = "busy"  #: a complete request, which is being answered


class Droppable(Protocol):
    """What the table needs of a connection."""

    network: str  #: see `network_of`

    def drop(self) -> None:
        """Close the connection at once."""


class ConnectionTable:
    """Counts connections, and closes waiting ones to make room.

    Parameters:
        total: the maximum of open connections.
        reserved: how many of them only cancel requests may use.
        per_address: the maximum of one network, without those of cancel requests.
    """

    def __init__(self, total: int, reserved: int, per_address: int) -> None:
        self._total, self._reserved, self._per_address = total, reserved, per_address
        self._accepted: dict[int, str] = {}  #: descriptor -> network: accepted, but `open` was not called yet
        self._states: dict[Droppable, State] = {}
        self._waiting: dict[str, dict[Droppable, None]] = {}  #: network -> its waiting connections, oldest first
        self._of: Counter[str] = Counter()  #: network -> open connections
        self._requests: Counter[str] = Counter()  #: network -> requests with complete headers

    def __len__(self) -> int:
        return len(self._states) + len(self._accepted)

    # -- connections

    def accept(self, descriptor: int, network: str) -> bool:
        """Count an accepted socket, closing a waiting connection if necessary. Return False if there is no room.

        A descriptor for which `open` was never called is forgotten when its number is reused.
        """
        self._accepted.pop(descriptor, None)
        if self._of[network] >= self._per_address:
            self._drop_oldest(network, "its address has the maximum of connections")
        if len(self) >= self._total and not self.drop_oldest("the server has the maximum of connections"):
            log.warning("connection refused: the server has the maximum of connections, and all are answering requests")
            return False
        self._accepted[descriptor] = network
        return True

    def open(self, connection: Droppable, descriptor: int) -> None:
        """Register the connection of an accepted socket."""
        self._accepted.pop(descriptor, None)
        self._states[connection] = State.headers
        self._of[connection.network] += 1
        self._wait(connection)

    def close(self, connection: Droppable) -> None:
        """Remove a connection. Does nothing the second time: it may have been dropped before."""
        state = self._states.pop(connection, None)
        if state is None:
            return
        self._leave(connection, state)
        _decrement(self._of, connection.network)

    def drop_oldest(self, why: str) -> bool:
        """Close the oldest waiting connection of the network that has the most. Return False if none waits."""
        if not self._waiting:
            return False
        return self._drop_oldest(max(self._waiting, key=lambda network: len(self._waiting[network])), why)

    def _drop_oldest(self, network: str, why: str, state: State | None = None) -> bool:
        for connection in self._waiting.get(network, ()):
            if state in (None, self._states[connection]):
                log.warning("closed the oldest connection without a complete request: %s", why)
                self.close(connection)
                connection.drop()
                return True
        return False

    # -- requests

    def admit(self, connection: Droppable, *, cancels: bool) -> bool:
        """Count a request with complete headers. Return False if it must be refused; cancel requests never are."""
        state = self._states.get(connection)
        if state is not State.headers:
            return state is not None
        if not cancels and not self._has_room(connection.network):
            log.warning("request refused: the server is answering the maximum of requests")
            return False
        self._leave(connection, state)
        self._states[connection] = State.body
        self._requests[connection.network] += 1
        self._wait(connection)
        return True

    def _has_room(self, network: str) -> bool:
        """Return whether there is room for a request, if necessary by closing one whose body is incomplete."""
        why = "the server has the maximum of open requests"
        if self._requests[network] >= self._per_address and not self._drop_oldest(network, why, State.body):
            return False
        if self._requests.total() < self._total - self._reserved:
            return True
        heaviest = sorted(self._waiting, key=lambda one: len(self._waiting[one]), reverse=True)
        return any(self._drop_oldest(one, why, State.body) for one in heaviest)

    def change(self, connection: Droppable, state: State) -> None:
        """Set the state of an admitted connection."""
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
            _decrement(self._requests, connection.network)
        waiting = self._waiting.get(connection.network, {})
        waiting.pop(connection, None)
        if not waiting:
            self._waiting.pop(connection.network, None)


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


def network_of(address: str) -> str:
    """Return the network that an address is counted as: an IPv6 address as its /64, which one client usually has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def room_for_connections(descriptors: int, used: int) -> int:
    """Return how many connections fit into a limit of `descriptors`, of which `used` are open."""
    return descriptors - used - descriptors // 4 - TURN
