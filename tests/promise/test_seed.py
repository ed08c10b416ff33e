"""The example that desist began with, run as it is, and our own version of it, both against a provider on loopback."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cancel_trial import PATIENCE

from desist.testing import LoopbackProvider, Reply

ROOT = Path(__file__).resolve().parents[2]
SEED = ROOT.parent / "shared" / "seed" / "workflow_cancellation.txt"
EXAMPLE = ROOT / "examples" / "workflow_cancellation.py"
RESEARCH = "Dragons are good at recursion."
STORY = Reply(tokens=[f"word{i} " for i in range(2000)], token_interval=0.01)

needs_seed = pytest.mark.skipif(not SEED.exists(), reason="the seed's text isn't beside the repository")
needs_web = pytest.mark.skipif(importlib.util.find_spec("ddgs") is None, reason="the extra 'web' isn't installed")


@pytest.fixture
def server() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as provider:
        yield provider


LINE = "input()"  #: wait for the test
END = "[t.join() for t in threading.enumerate() if t.name == 'WorkflowRunThread']"  #: wait for the run


def _seed(wait: str = LINE) -> str:
    """Return the seed's program with the package's name replaced, and its sleep by another wait."""
    text = SEED.read_text()
    program = text[re.search(r"^import ", text, re.MULTILINE).start() :]  # type: ignore[union-attr]
    program, count = re.subn(r"\bagno\b", "desist", program)
    assert count == 8 and "desist.workflow.workflow" in program
    assert program.count("time.sleep(delay_seconds)") == 1
    return program.replace("time.sleep(delay_seconds)", wait)


def _play(server: LoopbackProvider, ready: Callable[[str], bool]) -> tuple[int, str]:
    """Run the seed; let it cancel once `ready(what it has printed)`; return exit code and output."""
    env = os.environ | {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-test-0123456789"}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-u", "-c", _seed()], env=env, **pipes) as program:
        stop = threading.Timer(30, program.kill)
        stop.start()
        out = b""
        while not ready(out.decode(errors="replace")):
            piece = os.read(program.stdout.fileno(), 4096)  # type: ignore[union-attr]
            assert piece, out
            out += piece
        rest, err = program.communicate(b"\n")
        stop.cancel()
    assert b"Traceback" not in err, err
    return program.returncode, (out + rest).decode()


def _run(*command: str, server: LoopbackProvider | None, **more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    if server is not None:
        env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-test-0123456789"}
    done = subprocess.run([sys.executable, *command], env=env | more, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr and "Exception" not in done.stdout, done
    return done


@needs_seed
@needs_web
def test_the_seed_is_cancelled(server: LoopbackProvider) -> None:
    """The seed, cancelled after some text, reports success, under the id that it printed first."""
    server.enqueue(Reply(text=RESEARCH), STORY)
    code, out = _play(server, lambda said: "word5 " in said)
    assert code == 0, out
    run_id = re.search(r"Workflow run started: (\S+)", out).group(1)  # type: ignore[union-attr]
    assert f"Workflow run {run_id} marked for cancellation" in out
    assert f"Workflow run was cancelled: {run_id}" in out
    assert re.search(rf"^Run ID: {run_id}$", out, re.MULTILINE)
    assert re.search(r"^Status: cancelled$", out, re.MULTILINE) and "Was Cancelled: True" in out
    assert "SUCCESS: Workflow run was successfully cancelled!" in out
    assert re.search(rf"Content Preview: {re.escape(RESEARCH)}word0 word1 ", out)
    server.exchanges[1].wait_over(PATIENCE)
    assert server.exchanges[1].closed_by == "client" and server.exchanges[1].tokens_sent_after_close <= 2
    assert len(server.exchanges) == 2


@needs_seed
@needs_web
def test_the_seed_is_left_alone(server: LoopbackProvider) -> None:
    """The seed, left alone, ends with status COMPLETED; its late cancel is told the truth."""
    server.enqueue(Reply(text=RESEARCH), Reply(text="Once upon a time."))
    done = _run("-c", _seed(END), server=server)
    out = done.stdout
    assert done.returncode == 0, done
    run_id = re.search(r"Workflow run started: (\S+)", out).group(1)  # type: ignore[union-attr]
    assert re.search(r"^Status: COMPLETED$", out, re.MULTILINE) and re.search(rf"^Run ID: {run_id}$", out, re.MULTILINE)
    assert "Was Cancelled: False" in out and "WARNING: Workflow run completed before cancellation" in out
    assert f"Failed to cancel workflow run {run_id} (may not exist or already completed)" in out
    assert f"Content Preview: {RESEARCH}Once upon a time." in out


@needs_seed
@needs_web
def test_the_seed_without_a_key(server: LoopbackProvider) -> None:
    """Without a key the seed says which variable to set, and nothing is asked."""
    done = subprocess.run(
        [sys.executable, "-c", _seed()],
        input="\n",
        env={name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "OPENAI_API_KEY" in done.stdout and "Traceback" not in done.stderr


def test_our_example_is_cancelled(server: LoopbackProvider) -> None:
    """Our own version shows the receipt, what was stored, and what each step kept."""
    server.enqueue(Reply(text="one, two, three"), STORY)
    done = _run(str(EXAMPLE), "--after", "1", server=server)
    out = done.stdout
    assert done.returncode == 0 and done.stderr == "", done
    assert "[accepted: CANCELL" in out and "1 connection(s) closed, 0 calls abandoned]" in out
    assert "[cancelled: 1 seconds are enough]" in out and "[stored as CANCELLED]" in out
    assert "[step plan: done, 15 characters kept]" in out
    kept = re.search(r"\[step write: cancelled, (\d+) characters kept\]", out)
    assert kept and int(kept.group(1)) > 10


def test_our_example_is_left_alone(server: LoopbackProvider) -> None:
    """Left alone it completes at once: the stopper doesn't wait for its time."""
    server.enqueue(Reply(text="one, two, three"), Reply(text="The end."))
    done = _run(str(EXAMPLE), "--after", "60", server=server)
    assert done.returncode == 0 and done.stderr == "", done
    assert "[stored as COMPLETED]" in done.stdout and "[step write: done, 8 characters kept]" in done.stdout
