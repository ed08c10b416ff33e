"""A language model in a child process, for demos, tests and use without a provider.

Programs import `LocalChat` from here. `weights` finds and checks the model file, `install` installs missing packages,
`server_process` and `server` manage the child process that runs `server_main.py`, and `chat` has the `Model`.
"""

from desist.models.local.chat import LocalChat
from desist.models.local.server import LocalServer, ServerAddress, ServerSettings

__all__ = ["LocalChat", "LocalServer", "ServerAddress", "ServerSettings"]
