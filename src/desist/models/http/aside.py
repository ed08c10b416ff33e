"""Blocking work beside the loop: name look-ups, slow imports, certificates. The face of
`desist.runtime.daemon_thread`.
"""

from desist.runtime.daemon_thread import to_daemon_thread

__all__ = ["to_daemon_thread"]
