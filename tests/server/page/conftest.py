"""A browser for all tests of the page. Each test has a context of its own, in which errors fail the test."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from page_server import BROWSER, FLAGS, open_pages

_REQUIRED = "chromium" in os.environ.get("DESIST_REQUIRE", "").split(",")


def _missing() -> str:
    if BROWSER is None:
        return "there is no chromium on PATH"
    return "" if importlib.util.find_spec("playwright") else "playwright isn't installed"


if _REQUIRED and _missing():
    raise RuntimeError(f"{_missing()}, and DESIST_REQUIRE names chromium")


@pytest.fixture(scope="module")  # no longer: while it is there this thread has a running loop, which others mind
def browser() -> Iterator[Any]:
    """Return a browser; skip the test if there is none."""
    if why := _missing():
        pytest.skip(f"{why}: the page isn't tested")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=25_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


class Watch:
    """The errors in a page. `allowed` contains texts of expected errors."""

    def __init__(self) -> None:
        self.allowed: list[str] = []
        self.found: list[str] = []
        self.origins: set[str] = set()

    def on(self, page: Any) -> None:
        """Watch a page."""
        page.on("console", lambda said: said.type in ("error", "warning") and self.found.append(said.text))
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("request", lambda request: self.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))

    def bad(self) -> list[str]:
        """Return the unexpected errors."""
        return [said for said in self.found if not any(word in said for word in self.allowed)]


@pytest.fixture
def watch() -> Watch:
    """Return the error watch of this test's page."""
    return Watch()


@pytest.fixture
def page(browser: Any, watch: Watch) -> Iterator[Any]:
    """Return a page. Errors on its console and requests to other hosts fail the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB", timezone_id="Europe/Berlin")
    context.set_default_timeout(25_000)
    page = context.new_page()
    watch.on(page)
    open_pages.append(page)
    yield page
    open_pages.remove(page)
    context.close()
    assert watch.bad() == []
    assert len({origin for origin in watch.origins if not origin.startswith(("data:", "blob:"))}) <= 1, watch.origins
