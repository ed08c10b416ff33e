"""Web and news search that asks DuckDuckGo: `WebSearchTools` with its engine chosen."""

from __future__ import annotations

from typing import Any

from desist.tools.websearch import WebSearchTools

__all__ = ["DuckDuckGoTools"]


class DuckDuckGoTools(WebSearchTools):
    """Gives an agent `web_search` and `search_news` of DuckDuckGo."""

    def __init__(
        self,
        enable_search: bool = True,
        enable_news: bool = True,
        modifier: str | None = None,
        fixed_max_results: int | None = None,
        proxy: str | None = None,
        timeout: int | None = 10,
        verify_ssl: bool = True,
        timelimit: str | None = None,
        region: str | None = None,
        backend: str = "duckduckgo",
        **toolkit: Any,
    ) -> None:
        """Set up the search; the parameters are those of `WebSearchTools`.

        Raises:
            MissingExtraError: `ddgs` isn't installed.
            ConfigurationError: both tools are switched off, or a number isn't above 0.
        """
        super().__init__(
            enable_search=enable_search,
            enable_news=enable_news,
            modifier=modifier,
            fixed_max_results=fixed_max_results,
            proxy=proxy,
            timeout=timeout,
            verify_ssl=verify_ssl,
            timelimit=timelimit,
            region=region,
            backend=backend,
            **{"name": "duckduckgo", **toolkit},
        )
