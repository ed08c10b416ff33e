"""Web search: the real `ddgs` against a proxy that isn't there, and a stand-in for `ddgs` to see what it is asked."""

from __future__ import annotations

import json
import socket
import sys
import types
from typing import Any

import pytest

from desist.exceptions import ConfigurationError, MissingExtraError, ToolError, UnsupportedError
from desist.tools.duckduckgo import DuckDuckGoTools
from desist.tools.websearch import WebSearchTools


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for `ddgs`, which can't search without the internet; return what it is asked."""
    asked: list[Any] = []

    class DDGS:
        def __init__(self, **options: Any) -> None:
            asked.append(options)

        def text(self, query: str, **options: Any) -> list[dict[str, str]]:
            asked.append(("text", query, options))
            return [{"title": "é\ud800"}]

        def news(self, query: str, **options: Any) -> list[dict[str, str]]:
            asked.append(("news", query, options))
            return []

    module: Any = types.ModuleType("ddgs")
    module.DDGS = DDGS
    monkeypatch.setitem(sys.modules, "ddgs", module)
    return asked


def test_tools_and_schema(asked: list[Any]) -> None:
    """Both tools are described to the model with their parameters."""
    kit = DuckDuckGoTools()
    assert (kit.name, list(kit.functions)) == ("duckduckgo", ["web_search", "search_news"])
    described = kit.functions["web_search"].definition()["function"]
    assert described["parameters"]["required"] == ["query"]
    assert described["parameters"]["properties"]["max_results"]["default"] == 5
    assert described["parameters"]["properties"]["query"]["description"] == "What to search for."
    assert list(WebSearchTools(enable_search=False).functions) == ["search_news"]
    assert list(WebSearchTools(exclude_tools=["search_news"]).functions) == ["web_search"]


def test_what_is_asked(asked: list[Any]) -> None:
    """Every setting reaches `ddgs`, and the results come back as JSON."""
    kit = DuckDuckGoTools(
        modifier="site:a.org", fixed_max_results=2, proxy="http://p", timeout=3, verify_ssl=False,
        timelimit="w", region="us-en",
    )  # fmt: skip
    found = kit.functions["web_search"].bind({"query": "q", "max_results": 9}).invoke()
    assert json.loads(found)[0]["title"].startswith("é")
    options = {"max_results": 2, "timelimit": "w", "region": "us-en", "backend": "duckduckgo"}
    assert asked == [{"proxy": "http://p", "timeout": 3, "verify": False}, ("text", "site:a.org q", options)]
    asked.clear()
    assert WebSearchTools().search_news("q") == "[]"
    assert asked[1] == ("news", "q", {"max_results": 5, "backend": "auto"})


@pytest.mark.parametrize(
    ("arguments", "message"), [({"query": " "}, "query is empty"), ({"query": "q", "max_results": 0}, "at least 1")]
)
def test_bad_arguments(asked: list[Any], arguments: dict[str, Any], message: str) -> None:
    """A senseless query is an error for the model, and nothing is searched."""
    with pytest.raises(ToolError, match=message):
        WebSearchTools().functions["web_search"].bind(arguments).invoke()
    assert asked == []


def test_bad_settings(asked: list[Any]) -> None:
    """Settings without sense are refused by name."""
    with pytest.raises(ConfigurationError, match="both off"):
        WebSearchTools(enable_search=False, enable_news=False)
    with pytest.raises(ConfigurationError, match="fixed_max_results must be above 0, got 0"):
        WebSearchTools(fixed_max_results=0)
    with pytest.raises(UnsupportedError, match="toolkit 'duckduckgo' has no parameter colour="):
        DuckDuckGoTools(colour=1)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `ddgs` the user learns at construction what to install."""
    monkeypatch.setitem(sys.modules, "ddgs", None)
    with pytest.raises(MissingExtraError, match=r"DuckDuckGoTools needs the extra 'web': pip install 'desist\[web\]'"):
        DuckDuckGoTools()


def test_a_failing_search_is_an_error_for_the_model() -> None:
    """The real `ddgs`, whose proxy refuses: the error says which search failed."""
    pytest.importorskip("ddgs")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        kit = DuckDuckGoTools(proxy=f"http://127.0.0.1:{reserved.getsockname()[1]}", timeout=5)
        with pytest.raises(ToolError, match="the search for 'dragons' failed: "):
            kit.functions["web_search"].bind({"query": "dragons"}).invoke()
