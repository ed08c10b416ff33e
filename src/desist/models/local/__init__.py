"""A real language model in a child process, for demos, tests and work without a provider.

The face of the room: programs import `LocalChat` from here. `weights` finds and checks the file, `install` gets what
is missing, `process` and `server` own the child that runs `child.py`, `chat` is the `Model`.
"""

from desist.models.local.chat import LocalChat
from desist.models.local.server import Address, LocalServer, ServerSettings

__all__ = ["Address", "LocalChat", "LocalServer", "ServerSettings"]
