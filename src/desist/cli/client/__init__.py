"""Clients of the commands: access to runs in a database or on a server, behind one protocol, `RunClient`.

`open_client` makes a client from the options. Clients return plain values with the fields of the server's `/v1` API.
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
