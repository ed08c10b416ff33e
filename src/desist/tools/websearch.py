"""Web and news search with `ddgs` (the extra `web`). The tools block, so agents run them in a worker thread."""

from __future__ import annotations

import json
from typing import Any

from desist.exceptions import ConfigurationError, MissingExtraError, ToolError
from desist.tools.toolkit import Toolkit

__all__ = ["WebSearchTools"]


class WebSearchTools(Toolkit):
    """The tools `web_search` and `search_news`."""

    _own_name, _own_backend = "websearch", "auto"

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
        backend: str | None = None,
        **toolkit: Any,
    ) -> None:
        """Create the toolkit.

        Args:
            enable_search: offer `web_search`.
            enable_news: offer `search_news`.
            modifier: text before every query.
            fixed_max_results: number of results to return, whatever the model requests.
            proxy: URL of a proxy.
            timeout: seconds to wait for each search engine.
            verify_ssl: whether to check certificates.
            timelimit: how old results may be: "d", "w", "m" or "y".
            region: country and language, like "us-en".
            backend: search engines, separated by commas; "auto" for any. None: the default of the class.
            toolkit: options of `Toolkit`: `include_tools`, `instructions` and so on.

        Raises:
            MissingExtraError: `ddgs` isn't installed.
            ConfigurationError: both tools are disabled, or a number isn't above 0.
        """
        _ddgs(type(self).__name__)
        if not (enable_search or enable_news):
            raise ConfigurationError(f"{type(self).__name__}: enable_search and enable_news are both off: enable one")
        _above_zero("fixed_max_results", fixed_max_results)
        _above_zero("timeout", timeout)
        self.modifier = modifier
        self.fixed_max_results = fixed_max_results
        self._client = {"proxy": proxy, "timeout": timeout, "verify": verify_ssl}
        options = {"timelimit": timelimit, "region": region, "backend": backend or self._own_backend}
        self._options = {name: value for name, value in options.items() if value is not None}
        offered = [(enable_search, self.web_search), (enable_news, self.search_news)]
        toolkit.setdefault("name", self._own_name)
        super().__init__(tools=[method for enabled, method in offered if enabled], **toolkit)

    def web_search(self, query: str, max_results: int = 5) -> str:
        """Search the web and return the results as JSON, each with a title, a link and an excerpt.

        Args:
            query: What to search for.
            max_results: How many results to return.
        """
        return self._found("text", query, max_results)

    def search_news(self, query: str, max_results: int = 5) -> str:
        """Search the latest news and return the results as JSON, each with a date, a title, a link and an excerpt.

        Args:
            query: What to search for.
            max_results: How many results to return.
        """
        return self._found("news", query, max_results)

    def _found(self, kind: str, query: str, max_results: int) -> str:
        """Search and return the results as JSON. Raises `ToolError` if the search fails or finds nothing."""
        if not query.strip():
            raise ToolError("the query is empty: pass the text to search for")
        if max_results < 1:
            raise ToolError(f"max_results must be at least 1, got {max_results}")
        ddgs = _ddgs(type(self).__name__)
        text = f"{self.modifier} {query}" if self.modifier else query
        try:
            search = getattr(ddgs.DDGS(**self._client), kind)
            results = search(text, max_results=self.fixed_max_results or max_results, **self._options)
        except Exception as error:
            raise ToolError(f"the search for {query!r} failed: {error}") from error
        return json.dumps(results, ensure_ascii=False, default=str)


def _ddgs(who: str) -> Any:
    try:
        import ddgs
    except ImportError as error:
        raise MissingExtraError(who, "web") from error
    return ddgs


def _above_zero(name: str, value: int | None) -> None:
    if value is not None and not value > 0:
        raise ConfigurationError(f"{name} must be above 0, got {value!r}")
