"""Makes the pictures in docs/pictures: `PYTHONPATH=tests/support python tests/server/page/page_screenshots.py`.

For people, not for tests. Wide and narrow, light and dark; the font is Inter if it is installed.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from page_png import smaller
from page_server import BROWSER, FLAGS, button, get, open_run, post, served, start
from page_workflows import END, TALE, endless, measure_wing, ordered, pieces, search_archive
from playwright.sync_api import Page, expect, sync_playwright

from desist import Agent, Parallel, Step, Workflow, tool
from desist.models.openai import OpenAIChat
from desist.testing import Call, LoopbackProvider, Reply, ScriptedModel, ToolCalls

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
MORE = (
    "She was, after all, warm, and she never moved in winter. By spring there was comb between her scales, and by May "
    "she had learned to fold her wings so slowly that not one of them was crushed.\n\n"
    "It was the miller's daughter who found out, because she followed the bees instead of the smoke. "
)


@tool
async def sketch(subject: str) -> str:
    """Draw something."""
    await asyncio.sleep(3600)
    return subject


@tool
async def mix_colours(palette: str) -> str:
    """Mix colours."""
    await asyncio.sleep(3600)
    return palette


@tool
def render(width: int, height: int) -> str:
    """Render a picture, in one long call that can't be interrupted."""
    time.sleep(60)
    return f"{width} x {height}"


def tale(provider: LoopbackProvider) -> Workflow:
    """A workflow that takes a while: research in two branches, then a writer beside an illustrator."""
    found = [Call("search_archive", {"query": "dragons and bees"}), "Three papers say that they got on."]
    measured = [Call("measure_wing", {"species": "Draco apiarius"}), "Slow wing beats fan a hive well."]
    drawn = ToolCalls(
        Call("sketch", {"subject": "the cliff, with bees"}, id="a"),
        Call("mix_colours", {"palette": "honey, smoke"}, id="b"),
        Call("render", {"width": 4096, "height": 2160}, id="c"),
    )
    historian = Agent(name="Historian", tools=[search_archive], model=_slow(found, 0.14))
    zoologist = Agent(name="Zoologist", tools=[measure_wing], model=_slow(measured, 0.22))
    writer = Agent(name="Writer", model=OpenAIChat(id="large-2", base_url=provider.base_url, api_key="a key"))
    painter = Agent(name="Illustrator", tools=[sketch, mix_colours, render], model=_slow([drawn], 0.05))
    return Workflow(
        "Dragon story",
        description="Researches, writes and draws a story.",
        steps=[
            Parallel(Step("history", agent=historian), Step("zoology", agent=zoologist), name="research"),
            Parallel(Step("write", agent=writer), Step("illustrate", agent=painter), name="make"),
        ],
    )


def _slow(turns: list[Any], delay: float) -> ScriptedModel:
    return ScriptedModel(turns, repeat=True, delay=delay, id="small-1")


@contextmanager
def world() -> Iterator[str]:
    """Serve everything that is shown."""
    said = Reply(tokens=list(pieces(TALE + MORE)), token_interval=0.02, stall_after=80)
    with LoopbackProvider(said) as provider:
        quick = Workflow("Digest", description="Sums up a day.", steps=[Step("sum up", executor=lambda given: END)])
        reading = Step("read", executor=_fail, on_error="fail", max_retries=0)
        broken = Workflow("Import", description="Takes papers in.", steps=[reading])
        quiet = endless("Night watch")
        with served(tale(provider), quiet, ordered(), quick, broken) as url:
            yield url


def _fail(_: Any) -> str:
    raise OSError("the archive can't be read: its door is shut")


seen: dict[str, bytes] = {}


def shoot(page: Page, name: str) -> None:
    """Take a picture in every size and scheme. The files are reduced at the end."""
    for (size, (width, height)), scheme in itertools.product(SIZES.items(), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.wait_for_timeout(400)
        page.mouse.move(0, 0)
        seen[f"page-{name}-{size}-{scheme}.png"] = page.screenshot(animations="disabled")


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, world() as url:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
        page.goto(url)
        page.evaluate("""localStorage["desist.likes"] = JSON.stringify({ by: "ann", input: "0.4", output: "1.6" })""")
        start(url, workflow="digest", input="Tuesday, in three sentences", user_id="bob")
        start(url, workflow="import", input="the bishop's letters", user_id="bob")
        start(url, workflow="night-watch", input="until the bees wake", user_id="ann")
        late = start(url, workflow="night-watch", input="the south wall", user_id="bob")
        post(url, f"v1/runs/{late}/cancel?wait=10", {"reason": "somebody is there already", "by": "bob"})
        told = start(url, workflow="dragon-story", input="a dragon who keeps bees", user_id="ann")
        open_run(page, url, told)
        expect(page.locator(".text")).to_contain_text("By spring there was comb", timeout=60_000)
        page.wait_for_timeout(1500)
        shoot(page, "run")
        _list(page, url)
        _stop(page, url, told)
        _start(page, url)
        left = get(url, "v1/runs?status=RUNNING")["runs"]
        for run in left:
            post(url, f"v1/runs/{run['run_id']}/cancel?wait=10", {})
        browser.close()
    for name, picture in seen.items():
        (PICTURES / name).write_bytes(smaller(picture))


def _list(page: Page, url: str) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(url)
    page.locator(".run input:enabled").nth(1).check()
    shoot(page, "runs")


def _stop(page: Page, url: str, told: str) -> None:
    open_run(page, url, told)
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page.locator(".text")).to_contain_text("By spring")
    button(page, "Stop with reason, grace, scope").click()
    expect(page.locator(".preview li")).to_have_count(3)
    page.get_by_label("Reason", exact=True).fill("the wrong dragon")
    shoot(page, "stop")
    button(page, "Stop now").click()
    expect(page.locator(".story")).to_contain_text(re.compile("still alive 0:(0[4-9]|[1-5])"), timeout=30_000)
    page.locator("#spans").evaluate("(box) => (box.scrollTop = 0)")
    shoot(page, "stopped")


def _start(page: Page, url: str) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{url}#/start/workflow/order")
    page.get_by_label("Title").fill("The cliff that hummed")
    page.get_by_label("Chapters").fill("3")
    page.get_by_label("Name").fill("Ondine")
    page.locator("h1").focus()
    shoot(page, "start")


if __name__ == "__main__":
    main()
