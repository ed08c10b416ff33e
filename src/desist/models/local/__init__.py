"""A real language model in a child process, for demos, tests and work without a provider.

The face of the room: programs import `LocalChat` from here. `weights` finds and checks the file, `install` gets what
is missing, `server_process` and `server` own the child that runs `server_main.py`, `chat` is the `Model`.
"""

from desist.models.local.chat import LocalChat
from desist.models.local.server import LocalServer, ServerAddress, ServerSettings

__all__ = ["LocalChat", "LocalServer", "ServerAddress", "ServerSettings"]
