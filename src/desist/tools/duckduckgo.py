"""Web and news search that asks DuckDuckGo: `WebSearchTools` with its engine chosen."""

from __future__ import annotations

from desist.tools.websearch import WebSearchTools

__all__ = ["DuckDuckGoTools"]


class DuckDuckGoTools(WebSearchTools):
    """Gives an agent `web_search` and `search_news` of DuckDuckGo."""

    _own_name, _own_backend = "duckduckgo", "duckduckgo"
