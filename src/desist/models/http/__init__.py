"""What the models behind an HTTP API share: connections that a canceller can shut down, retries, errors, reading.

Programs use one name of it, `http_client`; models use the modules. It must not know what a provider's JSON means.
"""

from desist.models.http.clients import http_client

__all__ = ["http_client"]
