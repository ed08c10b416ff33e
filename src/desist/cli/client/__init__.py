"""Depots: where runs are, as commands see them. A database, or a server; commands don't know which.

`open_depot` makes one of what was typed. What a depot says is in the shape of the server's `/v1`, as plain values.
"""

from desist.cli.client.base import Depot, How, Wanted
from desist.cli.client.models import LIVE, Life, Receipt, RunInfo
from desist.cli.client.open import open_database, open_depot

__all__ = ["LIVE", "Depot", "How", "Life", "Receipt", "RunInfo", "Wanted", "open_database", "open_depot"]
