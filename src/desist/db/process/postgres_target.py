"""`PostgresTarget`: a database of a server: how to connect, and what its errors mean. psycopg is imported when needed.

Used by everything that opens a connection. No message contains a password.
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

#: Options of a connection unless the URL has others: in seconds, the last one in milliseconds. A server that is cut off
#: is detected within 11 s, even by an idle connection.
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
#: The number of executions of a statement before the server keeps its plan.
_PREPARE = 5
#: Seconds for the first answer of a pooler if the URL has no `connect_timeout`.
_ANSWER = 30.0
#: Classes and codes of transient errors: lost connections, servers that start or stop, too many connections, locks,
#: deadlocks, our own limits, and a server that became a standby.
_PASSING = ("08", "40", "57P", "53300", "55P03", "57014", "25P03", "25P02", "25006")


class PostgresTarget:
    """A database of a server.

    Parameters:
        url: `postgresql://...`, `postgresql+psycopg://...`, or a conninfo string of libpq.

    Raises:
        ConfigurationError: the URL can't be parsed.
        MissingExtraError: psycopg is not installed.
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
        except ProgrammingError:  # its message may contain the password
            raise ConfigurationError("db_url= can't be read: special characters in it must be written as %XX") from None
        self._options = {**ALIVE, **{name: value for name, value in given.items() if value is not None}}
        host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
        self.name = f"postgresql://{host or 'localhost'}{port and ':' + port}/{database}"  #: for messages
        #: the same for all targets that receive the same notifications
        self.key = (host, str(given.get("hostaddr") or ""), port, database, str(given.get("user") or ""))
        self.settings = tuple(sorted((name, str(value)) for name, value in self._options.items()))
        self.is_pooled: bool | None = None  #: whether there is a pooler in between; None: unknown

    def connect(self) -> psycopg.Connection[Any]:
        """Return a new connection in autocommit mode.

        Raises:
            psycopg.Error: the server can't be reached.
        """
        import psycopg

        connection: psycopg.Connection[Any] = psycopg.connect(**self._options, autocommit=True)  # type: ignore[arg-type]  # numbers, too
        try:
            if self.is_pooled is None:
                # A pooler invents the process ids that it reports to its clients.
                self.is_pooled = self._backend_pid(connection) != connection.info.backend_pid
            elif self.is_pooled:  # a pooler accepts every client, and lets it wait for a connection of the server
                self._backend_pid(connection)
            connection.prepare_threshold = None if self.is_pooled else _PREPARE
        except BaseException:
            connection.close()
            raise
        return connection

    def _backend_pid(self, connection: psycopg.Connection[Any]) -> int:
        """Return the id of the server process that answers, within the `connect_timeout`.

        Raises:
            psycopg.OperationalError: none answers.
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
            reason = answer.error_message.decode("utf-8", "replace") if answer is not None else "no answer"
            raise psycopg.OperationalError(reason or "no answer")
        return int(value)

    def connect_within(self, timeout: float) -> psycopg.Connection[Any]:
        """Return a new connection; wait for a server that is starting, but not for one that is missing.

        Raises:
            StoreError: the server can't be reached; the message has the reason.
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
        """Return an error message that names the database, the cause and what to do."""
        code, text = getattr(error, "sqlstate", None) or "", without_password(error)
        hint = next((hint for start, hint in _HINTS.items() if code.startswith(start)), None)
        if is_full(error):
            hint = f"no connection is left; {MAKE_ROOM.format(limit=limit_of(error))}"
        if hint is None and not code:  # from connecting: such errors have only a message
            hint = next((hint for part, hint in _TEXTS.items() if re.search(part, text)), None)
        return f"{self.name}: {hint} ({text})" if hint else f"{self.name}: {text}"


#: What to do if a connection is refused because there are too many.
MAKE_ROOM = (
    "a process needs one and uses up to ten: close some (to list them: SELECT usename, application_name, count(*)"
    " FROM pg_stat_activity GROUP BY 1, 2), or raise {limit}"
)
#: The limits by the messages of servers and poolers. Errors while connecting have no codes.
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
    "28": "it refuses this user: check user and password in db_url=, and pg_hba.conf of the server",
    "3D000": "there is no such database: create it, or pass another db_url=",
    "3F000": "there is no schema for the tables: pass db_schema=, or set a search_path",
    "42501": "this user lacks a privilege: grant it, or pass another db_schema=",
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
    "Connection refused": "no server listens there: check whether it runs",
    "could not translate host name": "there is no such host",
    "failed to resolve host": "there is no such host",
    "timeout expired": "it does not answer",
}


_SOON = ("starting up", "timeout expired")


def without_password(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def limit_of(error: BaseException) -> str:
    """Return which limit refused a connection; "" for another error."""
    return next((limit for part, limit in _LIMITS.items() if part in str(error)), "")


def is_full(error: BaseException) -> bool:
    """Return whether a connection was refused because there are too many."""
    return getattr(error, "sqlstate", None) in (None, "53300", "08P01") and limit_of(error) != ""


def is_transient(error: BaseException) -> bool:
    """Return whether trying again may help: a connection was lost, a lock not acquired, a limit of ours reached."""
    import psycopg

    code = getattr(error, "sqlstate", None)
    if code is None:  # from the client: the connection is lost, or can't be made
        refused = any(re.search(part, str(error)) for part in _REFUSED)
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not refused
    return str(code).startswith(_PASSING)


def is_starting(error: BaseException) -> bool:
    """Return whether the server will, or may, accept connections soon."""
    code, text = getattr(error, "sqlstate", None), str(error)
    return code == "57P03" or is_full(error) or (code is None and any(part in text for part in _SOON))
