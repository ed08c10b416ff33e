"""Start, follow, cancel, force, continue on the page, with a real browser and a real server."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright isn't installed: the page isn't tested")

from page_server import button, get, open_run, post, served, start, story_of
from page_workflows import END, Deaf, endless, ordered, story, tidying
from playwright.sync_api import Page, expect

from desist import Agent, Step, Workflow, tool
from desist.models.openai import OpenAIChat
from desist.testing import Call, Gate, LoopbackProvider, Reply, ScriptedModel


def test_start_and_follow(page: Page) -> None:
    """From the empty list to the end of a run: steps appear, text is streamed, tool calls are listed."""
    gate = Gate()
    with served(story(gate)) as url:
        page.goto(url)
        expect(page.get_by_text("Nothing has run here yet.")).to_be_visible()
        page.get_by_role("link", name="Start a run").first.click()
        page.get_by_label("Input").fill("a dragon who keeps bees")
        button(page, "Start").click()
        expect(page.locator(".badge.large")).to_have_text("Running")
        expect(page.locator(".text")).to_contain_text("took her for a cliff.")
        expect(page.locator(".text")).not_to_contain_text("embarrassing")
        page.locator("desist-waterfall .rows").focus()
        page.keyboard.press("Home")
        for name in ("Dragon story", "research", "history", "Historian", "search_archive"):
            expect(page.locator(".span .label", has_text=name).first).to_be_visible()
        page.locator(".span", has_text="search_archive").click()
        expect(page.locator(".chosen")).to_contain_text('"query": "dragons and bees"')
        expect(page.locator(".chosen")).to_contain_text('"year": 1512')
        page.get_by_role("tab", name="Tools").click()
        expect(page.locator(".calls > li")).to_have_count(2)
        gate.open()
        expect(page.locator(".badge.large")).to_have_text("Completed")
        page.get_by_role("tab", name="Text").click()
        expect(page.locator(".text")).to_contain_text(END.strip())
        expect(page.locator(".facts")).to_contain_text(re.compile(r"Tokens \d+ in 5 calls"))
        expect(button(page, "Stop")).to_be_hidden()
        page.get_by_role("link", name="Runs").first.click()
        expect(page.locator(".run")).to_contain_text("Completed")


def test_one_click_cancels_in_mid_stream(page: Page) -> None:
    """One click on Stop closes the provider's connection; the page shows the times and keeps the text."""
    with LoopbackProvider(Reply(text="It was a dark and stormy night", stall_after=4)) as provider:
        model = OpenAIChat(id="m", base_url=provider.base_url, api_key="a key")
        with served(agents=[Agent(name="Teller", model=model)]) as url:
            run_id = start(url, agent="teller")
            open_run(page, url, run_id)
            expect(page.locator(".text")).to_contain_text("It was a dark")
            button(page, "Stop").click()
            expect(page.locator(".badge.large")).to_have_text("Cancelled")
            assert provider.wait_request().wait_closed(30) >= 0
            lines = story_of(page)
            assert lines[0] == "Requested" and lines[1] == "All its work was told"
            assert "1 connection to a model closed" in lines
            assert re.fullmatch(r"Settled after [\d.]+ m?s", lines[-1])
            expect(page.locator(".text")).to_contain_text("It was a dark")
            expect(page.locator(".text .cut")).to_have_text("stopped here")
            expect(page.locator("#said")).to_contain_text("The run is cancelled, settled after")
            expect(button(page, "Continue")).to_be_focused()  # where Stop was, which is gone


def test_an_answer_that_was_cut_off(page: Page) -> None:
    """Where a model's answer ended early the page says why: at the request, and under the text."""
    with LoopbackProvider(Reply(text="It was a dark and", finish_reason="length")) as provider:
        model = OpenAIChat(id="m", base_url=provider.base_url, api_key="a key")
        with served(agents=[Agent(name="Teller", model=model)]) as url:
            open_run(page, url, start(url, agent="teller"))
            expect(page.locator(".badge.large")).to_have_text("Completed")
            expect(page.locator(".text .cut")).to_have_text("ended early: length")
            expect(page.locator(".span[data-kind=model] .note")).to_have_text(
                re.compile(r"^\d+ tokens, ended early: length$")
            )


def test_cancel_with_reason_scope_and_preview(page: Page) -> None:
    """The dialog previews what would be cancelled; its reason and scope are in the record."""
    gate = Gate()
    with served(story(gate)) as url:
        run_id = start(url, workflow="dragon-story")
        gate.wait_reached()
        open_run(page, url, run_id)
        button(page, "Stop with reason, grace, scope").click()
        preview = page.locator(".preview")
        expect(preview).to_contain_text("This stops it and 1 running child:")
        expect(preview).to_contain_text("Writer model large-2: next token for")
        page.get_by_label("How much").select_option(label="Only Writer, and what it started")
        expect(preview).to_contain_text("This stops it; it has no running children.")
        page.get_by_label("How much").select_option(label="All of Dragon story")
        page.get_by_label("Reason", exact=True).fill("wrong dragon")
        page.get_by_label("By", exact=True).fill("ann")
        page.get_by_label("Grace, in seconds", exact=True).fill("2.5")
        page.keyboard.press("Enter")
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        expect(page.locator(".story")).to_contain_text("Requested by ann “wrong dragon”")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator(".axis .stopped")).to_be_visible()


def test_only_a_part(page: Page) -> None:
    """A run inside the run is cancelled from its row; if its step says skip, the rest continues."""
    gate, inner = Gate(), Gate()
    outer = Workflow(
        "Outer",
        steps=[Step("inner", workflow=endless("Inner", inner), on_cancel="skip"), Step("rest", executor=_at(gate))],
    )
    with served(outer) as url:
        run_id = start(url, workflow="outer")
        inner.wait_reached()
        open_run(page, url, run_id)
        page.locator(".span[data-kind=workflow]", has_text="Inner").click()
        button(page, "Stop only this…").click()
        expect(page.get_by_label("How much")).to_have_value(re.compile(".+"))
        button(page, "Stop now").click()
        expect(page.locator(".span[data-kind=workflow]", has_text="Inner")).to_have_attribute(
            "data-status", "CANCELLED"
        )
        gate.wait_reached()
        expect(page.locator(".badge.large")).to_have_text("Running")
        gate.open()
        expect(page.locator(".badge.large")).to_have_text("Completed")


def _at(gate: Gate) -> Any:
    async def wait(_: Any) -> str:
        await gate.wait()
        return "done"

    return wait


def test_a_run_that_a_tool_has_started(page: Page) -> None:
    """An agent that a tool calls has no events here; it is shown while it is live, counted, and cancelled."""
    gate = Gate()
    helper = Agent(name="Helper", model=ScriptedModel([["so ", gate, "it is"]], id="m"))

    @tool
    async def ask_helper(question: str) -> str:
        """Ask another agent."""
        return str((await helper.arun(question)).content)

    calls = [Call("ask_helper", {"question": "is it?"}), "yes"]
    asker = Agent(name="Asker", model=ScriptedModel(calls), tools=[ask_helper])
    with served(agents=[asker]) as url:
        run_id = start(url, agent="asker")
        gate.wait_reached()
        open_run(page, url, run_id)
        row = page.locator(".span[data-kind=agent]", has_text="Helper")
        expect(row).to_have_attribute("data-status", "RUNNING")
        inner = get(url, f"v1/runs/{run_id}/live")["runs"][1]["run_id"]
        button(page, "Stop with reason, grace, scope").click()
        expect(page.locator(".preview")).to_contain_text("This stops it and 1 running child:")
        button(page, "Stop now").click()
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        expect(row).to_have_attribute("data-status", "CANCELLED")
        open_run(page, url, inner)  # any id leads to the whole run
        expect(page.locator("h1")).to_have_text("Asker")


def test_an_uninterruptible_tool_is_shown_as_abandoned(page: Page) -> None:
    """Abandoned work is named with its function and the time for which it still runs, until it has ended."""
    deaf = Deaf()
    with served(agents=[deaf.agent()]) as url:
        run_id = start(url, agent="sleeper")
        deaf.wait_inside()
        open_run(page, url, run_id)
        button(page, "Stop").click()
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        expect(page.locator(".story")).to_contain_text("Tools stopped: 2 of 3 – not nap")
        left = page.locator(".story li", has_text="Abandoned: thread “nap” in nap")
        expect(left).to_contain_text(re.compile(r"still alive \d:\d\d"))
        expect(left).to_contain_text(re.compile(r"still alive 0:0[1-9]"))  # it goes on counting
        expect(page.locator(".span", has_text="nap")).to_have_attribute("data-status", "ABANDONED")
        expect(page.locator(".span", has_text="listen").first).to_have_attribute("data-status", "CANCELLED")
        deaf.let_go()
        expect(left).to_contain_text("has ended meanwhile")


def test_force_ends_the_grace(page: Page) -> None:
    """During cleanup the page shows the rest of the grace; Force ends it."""
    gate, entered = Gate(), threading.Event()
    with served(tidying(gate, entered)) as url:
        run_id = start(url, workflow="tidy")
        open_run(page, url, run_id)
        expect(page.locator(".text")).to_contain_text("working")
        button(page, "Stop").click()
        assert entered.wait(30)
        expect(page.locator(".badge.large")).to_have_text("Stopping")
        expect(page.locator(".story")).to_contain_text("Cleanup “work”: runs")
        expect(page.locator(".story")).to_contain_text(re.compile(r"\d+:\d\d of its grace are left"))
        expect(button(page, "Stopping…")).to_be_disabled()
        expect(page.locator(".span[data-status=CANCELLING]")).to_have_count(2)
        expect(page.locator(".speaking")).to_have_count(0)
        page.get_by_role("link", name="Runs").first.click()
        expect(page.locator(".run .badge")).to_have_text("Stopping")  # others see it, too
        page.go_back()
        button(page, "Force").click()
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        expect(page.locator(".story")).to_contain_text("Cleanup “work”: cut short")


def test_continue(page: Page) -> None:
    """A cancelled run continues as a new one; finished steps are shown as taken over."""
    gate = Gate()
    with served(story(gate)) as url:
        run_id = start(url, workflow="dragon-story")
        gate.wait_reached()
        open_run(page, url, run_id)
        button(page, "Stop").click()
        button(page, "Continue").click()
        expect(page.locator(".badge.large")).to_have_text("Running")
        assert run_id not in page.url
        expect(page.locator(".facts")).to_contain_text("Goes on with")
        expect(page.locator(".span[data-status=KEPT]", has_text="research")).to_be_visible()
        gate.open()
        expect(page.locator(".badge.large")).to_have_text("Completed")


def test_form_from_a_schema(page: Page) -> None:
    """The input schema becomes a form: kinds of fields, lists, objects, limits; the server gets valid input."""
    with served(ordered()) as url:
        page.goto(f"{url}#/start/workflow/order")
        page.get_by_label("Title").fill("Honey")
        page.get_by_label("Mood").select_option("grim")
        page.get_by_label("Chapters").fill("99")
        button(page, "Start").click()
        assert page.get_by_label("Chapters").evaluate("field => field.validity.rangeOverflow")
        page.get_by_label("Chapters").fill("3")
        page.get_by_label("Rhymed").check()
        page.get_by_label("Name").fill("Bo")
        page.get_by_label("Legs").fill("6")
        expect(page.get_by_label("Words 1", exact=True)).to_have_value("honey")
        button(page, "Add").click()
        page.get_by_label("Words 2", exact=True).fill("smoke")
        button(page, "Take Words 1 away").click()
        button(page, "Start").click()
        expect(page.locator(".badge.large")).to_have_text("Completed")
        expect(page.locator(".text")).to_contain_text("Honey: Bo on 6 legs, grim, smoke")


def test_errors_of_the_server_are_shown(page: Page, watch: Any) -> None:
    """An unknown run, and one that can't be started: the server's message, and no other error."""
    watch.allowed = ["status of 404", "status of 422"]
    with served(endless()) as url:
        page.goto(f"{url}#/runs/none")
        expect(page.get_by_role("alert")).to_have_text("There is no run with this id, or none that you may see.")
        page.goto(f"{url}#/start")
        page.get_by_label("Input").fill("x")
        page.get_by_text("Limits, session, user").click()
        page.get_by_label("Session").fill("tab\tin it")
        button(page, "Start").click()
        expect(page.get_by_role("alert")).to_contain_text("session_id")


def test_a_run_that_fails(page: Page) -> None:
    """The error is shown at the top; the failed step is marked; the run can be continued."""

    def read(_: Any) -> str:
        raise OSError("the archive can't be read")

    with served(Workflow("Import", steps=[Step("read", executor=read, on_error="fail", max_retries=0)])) as url:
        open_run(page, url, start(url, workflow="import"))
        expect(page.locator(".badge.large")).to_have_text("Failed")
        expect(page.locator(".run-head .problem")).to_contain_text("the archive can't be read")
        expect(page.locator(".span", has_text="read")).to_have_attribute("data-status", "ERROR")
        expect(button(page, "Continue")).to_be_visible()


def test_a_run_that_ended_long_ago(page: Page) -> None:
    """For a run whose events were deleted, the record is shown: steps, text, cancel."""
    from desist.run.execution.follow import recent_streams

    gate = Gate()
    with served(story(gate)) as url:
        run_id = start(url, workflow="dragon-story")
        gate.wait_reached()
        post(url, f"v1/runs/{run_id}/cancel?wait=30", {"reason": "enough"})
        recent_streams.reset_after_fork()
        open_run(page, url, run_id)
        expect(page.locator(".badge.large")).to_have_text("Cancelled")
        expect(page.locator(".story")).to_contain_text("“enough”")
        expect(page.locator(".span .label", has_text="outline").first).to_be_visible()
        expect(page.locator(".text")).to_contain_text("The dragon kept bees.")
