"""Accessibility of the page: names, contrast, sizes, keyboard, for any screen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright isn't installed: the page isn't tested")

from page_server import button, open_run, post, served, start
from page_workflows import Deaf, endless, ordered, story
from playwright.sync_api import Page, expect

from desist.testing import Gate

Place = dict[str, Any]
CHECK = Path(__file__).with_name("page_checks.js").read_text()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A server with a run of every kind."""
    gate, deaf = Gate(), Deaf()
    with served(story(gate), endless(), ordered(), agents=[deaf.agent()]) as url:
        told = start(url, workflow="dragon-story", input="a dragon who keeps bees")
        start(url, workflow="endless", user_id="ann")
        left = start(url, agent="sleeper")
        deaf.wait_inside()
        gate.wait_reached()
        post(url, f"v1/runs/{left}/cancel?wait=30", {"reason": "too loud", "by": "ann"})
        yield {"url": url, "told": told, "left": left}
        deaf.let_go()


def _list(page: Page, place: Place) -> None:
    page.goto(place["url"])
    page.locator(".run input:enabled").first.check()


def _run(page: Page, place: Place) -> None:
    open_run(page, place["url"], place["told"])
    page.locator(".span", has_text="search_archive").click()


def _events(page: Page, place: Place) -> None:
    open_run(page, place["url"], place["told"])
    page.get_by_role("tab", name="Events").click()
    page.locator(".event").nth(3).click()


def _tools(page: Page, place: Place) -> None:
    open_run(page, place["url"], place["told"])
    page.get_by_role("tab", name="Tools").click()
    expect(page.locator(".calls > li")).to_have_count(2)


def _stop(page: Page, place: Place) -> None:
    open_run(page, place["url"], place["told"])
    button(page, "Stop with reason, grace, scope").click()
    expect(page.locator(".preview li")).to_have_count(2)


def _left(page: Page, place: Place) -> None:
    open_run(page, place["url"], place["left"])
    expect(page.locator(".story")).to_contain_text("still alive")


def _start(page: Page, place: Place) -> None:
    page.goto(f"{place['url']}#/start/workflow/order")
    page.get_by_text("Limits, session, user").click()


VIEWS: list[Callable[[Page, Place], None]] = [_list, _run, _events, _tools, _stop, _left, _start]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the source of axe-core, which is downloaded: it is no part of desist."""
    required = "npm" in os.environ.get("DESIST_REQUIRE", "").split(",")
    place = tmp_path_factory.mktemp("axe")
    done = None
    if npm := shutil.which("npm"):
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place), "axe-core@4"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    source = Path(place, "node_modules/axe-core/axe.min.js")
    if not source.exists():
        (pytest.fail if required else pytest.skip)(f"axe-core can't be had: {done.stderr[:300] if done else 'no npm'}")
    return source.read_text()


def _both(page: Page) -> Iterator[str]:
    """Show the page wide and light, then narrow and dark."""
    for width, scheme in ((1440, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 860})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        yield f"{width} {scheme}"


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_names_contrast_and_sizes(page: Page, place: Place, view: Callable[[Page, Place], None]) -> None:
    """Wide and narrow, light and dark.

    Everything has a name, contrast and size, and nothing is wider than the screen.
    """
    view(page, place)
    for how in _both(page):
        assert page.evaluate(CHECK) == [], how


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_axe_finds_nothing(page: Page, place: Place, view: Callable[[Page, Place], None], axe: str) -> None:
    """axe-core, an independent checker, finds no violation of WCAG 2.2 AA and of its best practices."""
    view(page, place)
    page.evaluate(axe)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    for how in _both(page):
        found = page.evaluate("(rules) => axe.run(document, { runOnly: rules })", rules)["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], how


def test_keyboard_only(page: Page) -> None:
    """A run is found, followed, inspected and cancelled without a pointer; the focus is always visible."""
    gate = Gate()
    with served(story(gate)) as url:
        start(url, workflow="dragon-story")
        gate.wait_reached()
        page.goto(url)
        expect(page.locator(".run")).to_have_count(1)
        _tab_to(page, "a.title")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Dragon story")
        expect(page.locator("h1")).to_be_focused()
        _tab_to(page, "#spans")
        page.keyboard.press("Home")
        expect(page.locator("#spans .span[aria-selected=true]")).to_contain_text("Dragon story")
        rows = page.locator("#spans .span").count()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#spans .span")).to_have_count(1)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#spans .span")).to_have_count(rows)
        page.keyboard.press("ArrowDown")
        expect(page.locator(".chosen h3")).to_contain_text("research")
        _tab_to(page, "[role=tab]")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name="Tools")).to_be_focused()
        _tab_to(page, ".stop.more", back=True)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Reason", exact=True)).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(".stop.more")).to_be_focused()
        page.keyboard.press("Shift+Tab")
        expect(button(page, "Stop")).to_be_focused()
        page.keyboard.press("Space")
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        expect(button(page, "Continue")).to_be_focused()


def _tab_to(page: Page, selector: str, back: bool = False) -> None:
    """Press Tab until the focus is there; the focus must be visible each time."""
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        seen = """(wanted) => {
            const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
            const ring = style.outlineStyle !== "none" || getComputedStyle(at, "::after").outlineStyle !== "none"
                || at.closest("label") !== null;
            return { there: at.matches(wanted), seen: at === document.body || (ring && box.width > 0) };
        }"""
        found = page.evaluate(seen, selector)
        assert found["seen"], page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        if found["there"]:
            return
    raise AssertionError(f"{selector} can't be reached by Tab")


def test_no_motion_where_it_isnt_wanted(page: Page, place: Place) -> None:
    """With prefers-reduced-motion nothing is animated."""
    moving = "() => document.getAnimations().filter((one) => one.playState === 'running').length"
    page.goto(place["url"])
    expect(page.locator(".run .shape.RUNNING").first).to_be_visible()
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    expect(page.locator(".run .shape.RUNNING").first).to_be_visible()
    assert page.evaluate(moving) == 0
