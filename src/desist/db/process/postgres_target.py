"""Which server and database, how to connect to it, and what its errors mean. psycopg is imported when it is needed.

Used by everything here that opens a connection. A password is never part of a message.
"""

from __future__ import annotations

import re
import select
import time
from typing import TYPE_CHECKING, Any

from desist.exceptions import ConfigurationError, MissingExtraError, StoreError

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresTarget", "is_full", "is_transient", "without_password"]

#: What is asked of a connection unless the URL says otherwise. A server that is cut off is noticed within 11 s, also
#: while nothing is asked of it: seconds, but for the last, milliseconds.
ALIVE = {
    "application_name": "desist",
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_SCHEME = re.compile(r"(postgres|postgresql)(\+\w+)?://")
#: How many times a statement is executed before the server keeps its plan.
_PREPARE = 5
#: Seconds in which the first answer must come where the URL sets no limit for connecting.
_ANSWER = 30.0
#: Classes and codes of errors that pass: connections lost, servers that start or stop, too many connections, locks,
#: deadlocks, our own limits, and a server that became a standby.
_PASSING = ("08", "40", "57P", "53300", "55P03", "57014", "25P03", "25P02", "25006")


class PostgresTarget:
    """A database of a server, seen from this process.

    Parameters:
        url: `postgresql://...`, `postgresql+psycopg://...`, or a conninfo string of libpq.

    Raises:
        ConfigurationError: it can't be read.
        MissingExtraError: psycopg isn't installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict
        except ImportError:
            raise MissingExtraError("PostgresDb", "postgres") from None
        scheme = _SCHEME.match(url)
        if scheme is not None and scheme[2] not in (None, "+psycopg", "+psycopg_async"):
            raise ConfigurationError(
                f"db_url= names the driver {scheme[2]!r}: desist uses psycopg; write postgresql://..."
            )
        if scheme is None and "=" not in url:
            raise ConfigurationError("db_url= must look like 'postgresql://USER:PASSWORD@HOST:PORT/DATABASE'")
        try:
            given = conninfo_to_dict(_SCHEME.sub("postgresql://", url, count=1))
        except ProgrammingError:  # its words may hold the password
            raise ConfigurationError("db_url= can't be read: special characters in it must be written as %XX") from None
        self._options = {**ALIVE, **{name: value for name, value in given.items() if value is not None}}
        host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
        self.name = f"postgresql://{host or 'localhost'}{port and ':' + port}/{database}"  #: for messages
        #: the same for all who hear the same calls
        self.key = (host, str(given.get("hostaddr") or ""), port, database, str(given.get("user") or ""))
        self.settings = tuple(sorted((name, str(value)) for name, value in self._options.items()))
        self.is_pooled: bool | None = None  #: something stands between that hands out the server's connections

    def connect(self) -> psycopg.Connection[Any]:
        """Return a new connection, in which each statement is a transaction unless told otherwise.

        Raises:
            psycopg.Error: it can't be reached.
        """
        import psycopg

        connection: psycopg.Connection[Any] = psycopg.connect(**self._options, autocommit=True)  # type: ignore[arg-type]  # numbers, too
        try:
            if self.is_pooled is None:
                # A pooler makes up the process ids that it tells its clients.
                self.is_pooled = self._backend_pid(connection) != connection.info.backend_pid
            elif self.is_pooled:  # it lets everybody in, and has those wait for whom it has no connection
                self._backend_pid(connection)
            connection.prepare_threshold = None if self.is_pooled else _PREPARE
        except BaseException:
            connection.close()
            raise
        return connection

    def _backend_pid(self, connection: psycopg.Connection[Any]) -> int:
        """Return which process of the server answers, within the `connect_timeout`.

        Raises:
            psycopg.OperationalError: none does.
        """
        import psycopg

        server, until = connection.pgconn, time.monotonic() + (float(str(self._options["connect_timeout"])) or _ANSWER)
        server.send_query(b"SELECT pg_backend_pid()")
        poll, answer = select.poll(), None
        poll.register(server.socket, select.POLLIN)
        while True:
            while server.is_busy():
                if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                    raise psycopg.OperationalError("the pooler has no connection of the server left: timeout expired")
                server.consume_input()
            result = server.get_result()
            if result is None:
                break
            answer = result
        value = answer.get_value(0, 0) if answer is not None and answer.ntuples else None
        if value is None:
            said = answer.error_message.decode("utf-8", "replace") if answer is not None else "no answer"
            raise psycopg.OperationalError(said or "no answer")
        return int(value)

    def connect_within(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a new connection; wait for a server that starts, but not for one that isn't there.

        Raises:
            StoreError: it can't be reached; the message says why.
        """
        import psycopg

        until = time.monotonic() + timeout
        while True:
            try:
                return self.connect()
            except psycopg.Error as error:
                if not is_starting(error) or time.monotonic() > until:
                    raise StoreError(self.format_error(error)) from error
                time.sleep(0.1)

    def format_error(self, error: BaseException) -> str:
        """Say what is wrong with which database, and what to do."""
        code, text = getattr(error, "sqlstate", None) or "", without_password(error)
        hint = next((hint for start, hint in _HINTS.items() if code.startswith(start)), None)
        if is_full(error):
            hint = f"no connection is left; {MAKE_ROOM.format(limit=limit_of(error))}"
        if hint is None and not code:  # it came while connecting: only words are known of it
            hint = next((hint for part, hint in _TEXTS.items() if re.search(part, text)), None)
        return f"{self.name}: {hint} ({text})" if hint else f"{self.name}: {text}"


#: What helps where a connection is refused because there are too many.
MAKE_ROOM = (
    "a process needs one and takes up to ten: close some (who has them: SELECT usename, application_name, count(*)"
    " FROM pg_stat_activity GROUP BY 1, 2), or raise {limit}"
)
#: Which limit was reached, by what servers and poolers say. `connect` has only their words.
_LIMITS = {
    "too many clients": "max_connections of the server",
    "connection slots are reserved": "max_connections of the server",
    "too many connections for role": "the CONNECTION LIMIT of the role",
    "too many connections for database": "the CONNECTION LIMIT of the database",
    "the pooler has no connection": "default_pool_size of PgBouncer",
    "query_wait_timeout": "default_pool_size of PgBouncer",
    "no more connections allowed": "max_client_conn of PgBouncer",
    "client connections exceeded": "max_user_client_connections of PgBouncer",
}
_HINTS = {
    "25006": "it can't be written: this is a standby, or the transaction is read-only",
    "28": "it doesn't let this user in: see user and password in db_url=, and the server's pg_hba.conf",
    "3D000": "there is no such database: make it, or give another db_url=",
    "3F000": "there is no schema to make tables in: give db_schema=, or a search_path",
    "42501": "this user may not do that: grant it, or give another db_schema=",
    "53100": "the server's disk is full",
}
_REFUSED = {
    'database ".*" does not exist': _HINTS["3D000"],
    'role ".*" does not exist': _HINTS["28"],
    "password authentication failed": _HINTS["28"],
    r"no pg_hba\.conf entry": _HINTS["28"],
}
_TEXTS = {
    **_REFUSED,
    "Connection refused": "nothing listens there: see whether the server runs",
    "could not translate host name": "there is no such host",
    "failed to resolve host": "there is no such host",
    "timeout expired": "it doesn't answer",
}


_SOON = ("starting up", "timeout expired")


def without_password(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def limit_of(error: BaseException) -> str:
    """Return which limit refused a connection; "" for another error."""
    return next((limit for part, limit in _LIMITS.items() if part in str(error)), "")


def is_full(error: BaseException) -> bool:
    """Whether a connection was refused because there are too many."""
    return getattr(error, "sqlstate", None) in (None, "53300", "08P01") and limit_of(error) != ""


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: a connection was lost, a lock not got, a limit of ours reached."""
    import psycopg

    code = getattr(error, "sqlstate", None)
    if code is None:  # from the client: the connection is gone, or can't be made
        refused = any(re.search(part, str(error)) for part in _REFUSED)
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not refused
    return str(code).startswith(_PASSING)


def is_starting(error: BaseException) -> bool:
    """Whether a server is there that will soon take connections, or may be: it is slow."""
    code, text = getattr(error, "sqlstate", None), str(error)
    return code == "57P03" or is_full(error) or (code is None and any(part in text for part in _SOON))
