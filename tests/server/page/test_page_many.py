"""The page with many runs and events, and with a lost server."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright isn't installed: the page isn't tested")

from page_server import HANG, button, get, open_run, post, served, start
from page_workflows import endless, many
from playwright.sync_api import Page, expect

from desist import Step, StepInput, Workflow
from desist.testing import Gate

PROGRAM = str(Path(__file__).with_name("page_program.py"))


def test_cancel_the_selected_runs(page: Page) -> None:
    """Of four runs two are selected and cancelled, after the server has counted them; the others continue."""
    with served(endless("One"), endless("Two")) as url:
        ids = [start(url, workflow=name, user_id=f"user{n}") for n, name in enumerate(("one", "one", "two", "two"))]
        page.goto(url)
        expect(page.locator(".run")).to_have_count(4)
        for at in (0, 2):
            page.locator(f'.run:has(a[href$="{ids[at]}"])').get_by_role("checkbox").check()
        expect(page.get_by_role("region", name="Chosen runs")).to_contain_text("2 chosen")
        button(page, "Stop 2 runs…").click()
        expect(page.locator(".counted")).to_have_text("The server would stop 2 runs.")
        page.get_by_label("Reason").fill("too many")
        button(page, "Stop 2 runs").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator(".run", has_text="Cancelled")).to_have_count(2)
        expect(page.locator(".run", has_text="“too many”")).to_have_count(2)
        assert [get(url, f"v1/runs/{one}")["status"] for one in ids] == ["CANCELLED", "RUNNING"] * 2
        expect(page.get_by_role("region", name="Chosen runs")).to_be_hidden()


def test_cancel_many_by_filters(page: Page) -> None:
    """Filters instead of a selection: the count follows them; a run that has ended meanwhile isn't counted."""
    with served(endless("One"), endless("Two")) as url:
        ids = [
            start(url, workflow=name, user_id=user) for name, user in (("one", "ann"), ("one", "bob"), ("two", "ann"))
        ]
        page.goto(url)
        button(page, "Stop many…").click()
        expect(page.locator(".counted")).to_have_text("The server would stop 3 runs.")
        page.get_by_label("Runs of").select_option("One")
        expect(page.locator(".counted")).to_have_text("The server would stop 2 runs.")
        page.get_by_label("Of the user").fill("ann")
        expect(page.locator(".counted")).to_have_text("The server would stop 1 run.")
        page.get_by_label("Older than, in seconds").fill("1000")
        expect(page.locator(".counted")).to_have_text("The server would stop nothing.")
        expect(page.locator("dialog button.stop")).to_be_disabled()
        page.get_by_label("Older than, in seconds").fill("")
        button(page, "Stop 1 run").click()
        expect(page.locator(".run", has_text="Cancelled")).to_have_count(1)
        assert [get(url, f"v1/runs/{one}")["status"] for one in ids] == ["CANCELLED", "RUNNING", "RUNNING"]


def test_the_list_is_live(page: Page) -> None:
    """Runs appear and end without a reload; the server filters; one click in a row cancels."""
    gate = Gate()
    with served(endless("One", gate), endless("Two")) as url:
        page.goto(url)
        expect(page.get_by_text("Nothing has run here yet.")).to_be_visible()
        one, two = start(url, workflow="one"), start(url, workflow="two")
        expect(page.locator(".run", has_text="Running")).to_have_count(2)
        expect(page.locator(".run .doing").first).to_have_text("wait")
        gate.open()
        expect(page.locator(".run", has_text="Completed")).to_have_count(1)
        page.locator(f'.run:has(a[href$="{two}"])').get_by_role("button").click()
        expect(page.locator(".run", has_text="Cancelled")).to_have_count(1)
        page.get_by_text("Completed", exact=True).first.click()
        expect(page.locator(".run")).to_have_count(1)
        expect(page.locator(f'.run a[href$="{one}"]')).to_be_visible()
        page.get_by_label("Workflow or agent").select_option("Two")
        expect(page.get_by_text("No run fits.")).to_be_visible()
        page.get_by_text("All", exact=True).click()
        page.get_by_label("Find").fill(two[:13])
        expect(page.locator(".run")).to_have_count(1)


def test_older_runs(page: Page) -> None:
    """Fifty runs are shown at first; older ones are loaded on request, up to the first."""
    quick = Workflow("Quick", steps=[Step("one", executor=lambda given: "done")])
    with served(quick) as url:
        ids = [start(url, workflow="quick") for _ in range(210)]
        page.goto(url)
        for shown in (50, 100, 150, 200):
            expect(page.locator(".run")).to_have_count(shown)
            button(page, "Older runs").click()
        expect(page.locator(".run")).to_have_count(210)
        expect(page.locator(f'.run a[href$="{ids[0]}"]')).to_be_visible()
        expect(button(page, "Older runs")).to_be_hidden()


def test_ten_thousand_events(page: Page) -> None:
    """A run with 10,000 events is shown in a page of bounded size; it can be filtered, scrolled, and cancelled."""
    gate = Gate()
    with served(many(10_000, gate)) as url:
        run_id = start(url, workflow="many")
        gate.wait_reached(timeout=HANG)
        open_run(page, url, run_id)
        page.get_by_role("tab", name="Events").click()
        expect(page.locator("desist-events .tools")).to_contain_text("10,002 events")
        assert page.evaluate("document.querySelectorAll('*').length") < 1500
        expect(page.locator(".event").last).to_contain_text("#10001")
        page.locator("desist-events .rows").focus()
        page.keyboard.press("Home")
        expect(page.locator(".event", has_text="#0").first).to_be_visible()
        expect(page.locator("desist-events .detail")).to_contain_text('"event": "WorkflowStarted"')
        page.get_by_label("pieces of text").uncheck()
        expect(page.locator("desist-events .tools")).to_contain_text("2 of 10,002 events")
        page.get_by_role("tab", name="Text").click()
        expect(page.locator(".text")).to_contain_text("word9999")
        button(page, "Stop").click()
        expect(page.locator(".badge.large")).to_have_text("Cancelled")


def test_a_long_text_is_shown_completely(page: Page) -> None:
    """Thousands of lines, empty ones too, in any chunks: each is shown once, in its position."""
    gate = Gate()
    lines = [f"{'' if number % 7 == 0 else f'line {number} ' * (number % 5)}" for number in range(3000)]
    said = "first\n" + "\n".join(lines) + "\nlast"

    async def tell(_: StepInput) -> AsyncIterator[str]:
        for at in range(0, len(said), 33):
            yield said[at : at + 33]
        await gate.wait()

    with served(Workflow("Long", steps=[Step("tell", executor=tell)])) as url:
        open_run(page, url, start(url, workflow="long"))
        expect(page.locator(".text .said")).to_contain_text("last")
        shown = page.locator(".text .said").evaluate("(box) => box.innerText")
        assert [line.rstrip() for line in shown.split("\n")] == [line.rstrip() for line in said.split("\n")]
        assert page.locator(".text .said .block").count() > 5
        gate.open()
        expect(page.locator(".badge.large")).to_have_text("Completed")
        assert page.locator(".text .said").evaluate("(box) => box.innerText") == shown


@contextmanager
def program(port: int, db: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server as a process of its own."""
    run = [sys.executable, "-c", "from desist.cli import main; main()", "serve", f"{PROGRAM}:endless"]
    process = subprocess.Popen([*run, "--port", str(port), "--db", str(db)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("desist serves on"))
        yield process, said.rpartition(" ")[2].strip() + "/"
    finally:
        process.kill()
        process.wait(HANG)
        process.stderr.close()


def test_a_server_that_dies_and_comes_back(page: Page, watch: Any, tmp_path: Path) -> None:
    """The page shows that the server is lost, and reconnects by itself, up to the end of the run."""
    watch.allowed = ["net::ERR_", "status of 409"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    db = tmp_path / "runs.db"
    with program(port, db) as (process, url):
        run_id = start(url, workflow="endless")
        open_run(page, url, run_id)
        expect(page.locator(".text")).to_contain_text("once upon")
        process.send_signal(signal.SIGKILL)
        expect(page.locator(".stream")).to_have_text("Reconnecting…")
        expect(page.locator("desist-connection")).to_have_text("No connection: trying again")
        assert process.wait(HANG) == -signal.SIGKILL
    with program(port, db) as (_, url):
        expect(page.locator("desist-connection")).to_have_text("")
        expect(page.locator(".badge.large")).to_have_text(re.compile("Cancelled|Failed"))
        expect(page.locator(".stream")).to_have_text("")
        expect(page.locator(".text .said")).to_have_text("once upon ")  # once
        page.get_by_role("tab", name="Events").click()
        expect(page.locator(".event", has_text=re.compile("WorkflowCancelled|WorkflowError"))).to_have_count(1)
        numbers = [one for one in page.locator(".event .number").all_inner_texts() if one != "–"]
        assert len(numbers) == len(set(numbers)) >= 3
        button(page, "Continue").click()
        expect(page.locator(".badge.large")).to_have_text("Running")
        button(page, "Stop").click()
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        assert post(url, "v1/runs/cancel", {"dry_run": True})["count"] == 0
        page.goto("about:blank")
