"""Depots: where runs are, as commands see them. A database, or a server; commands don't know which.

`open_client` makes one of what was typed. What a depot says is in the shape of the server's `/v1`, as plain values.
"""

from desist.cli.client.base import CancelOptions, RunClient, RunFilter
from desist.cli.client.models import LIVE, LiveInfo, ReceiptInfo, RunInfo
from desist.cli.client.open import open_client, open_database

__all__ = [
    "LIVE",
    "CancelOptions",
    "LiveInfo",
    "ReceiptInfo",
    "RunClient",
    "RunFilter",
    "RunInfo",
    "open_client",
    "open_database",
]
