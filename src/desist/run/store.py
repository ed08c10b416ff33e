"""Public import path of the protocols that a store of runs implements."""

from desist.run.storage import store
from desist.run.storage.store import *  # noqa: F403

__all__: list[str] = []
__all__ += store.__all__
