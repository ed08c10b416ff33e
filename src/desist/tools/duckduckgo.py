"""Web and news search with DuckDuckGo: `WebSearchTools` with a fixed search engine."""

from __future__ import annotations

from desist.tools.websearch import WebSearchTools

__all__ = ["DuckDuckGoTools"]


class DuckDuckGoTools(WebSearchTools):
    """The tools `web_search` and `search_news`, which search with DuckDuckGo."""

    _own_name, _own_backend = "duckduckgo", "duckduckgo"
