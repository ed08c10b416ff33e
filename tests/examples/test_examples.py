"""The programs in `examples/` are run as they are, each in a process of its own: it ends by itself, and well.

What they print is compared at the lines that make the point, and never where it depends on the machine's speed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from desist.testing import LoopbackProvider, Reply

EXAMPLES = Path(__file__).parents[2] / "examples"

#: What stands somewhere in the output, in this order; regular expressions.
PRINTS: dict[str, list[str]] = {
    "research_then_write": [
        r"== research",
        r"\[look_up\(\{'animal': 'octopus'\}\) -> An octopus has three hearts",
        r"== write",
        r"three hearts to give, not one\.",
        r"== sign",
        r"\[COMPLETED: \['research', 'write', 'sign'\]\]",
        r"\[research: \d+ tokens in \d+\.\d s\]",
    ],
    "parallel_fact_check": [
        r"=> nobody objects",
        r"biologist: .*<- stopped: sibling",
        r"historian: WRONG: they remember for months\.\n",
        r"editor: .*<- stopped: sibling",
        r"=> step \"historian's verdict\": WRONG",
    ],
    "approval_over_a_restart": [
        r"PAUSED: .* pay \(to be confirmed\)",
        r"ann: accepted; bob: already_answered by ann",
        r">>> 450 paid",
        r"COMPLETED: Done: paid 450\.",
    ],
    "loop_until_good": [r"round 1\n", r"-> 3/10", r"round 2\n", r"-> 6/10", r"round 3\n", r"-> 9/10", r"\[COMPLETED\]"],
    "routing": [r"via damage \+ refund: .*24\.50.*\[signed by the boss\]", r"via help: ", r"via thanks: "],
    "shared_state": [
        r"breakfast: The egg is on the table",
        r"'egg': 1, 'butter': 2, 'flour': 4",
        r"'fry' and by 'bake': 'bake' wins",
        r"supper: ",
        r"'egg': 0, 'butter': 1, 'flour': 3",
        r"as it was: \{'larder': \{'egg': 2",
    ],
    "chat_history": [
        r"It begins on a small ship far out at sea, -- \[stopped\]",
        r"You are Ada\. I was telling you: 'It begins on a small ship far out at sea,'",
        r"\['COMPLETED', 'CANCELLED', 'COMPLETED'\]",
    ],
    "background_poller": [
        r"started: PENDING, PENDING",
        r"brief: COMPLETED",
        r"windy: accepted, the other one was enough",
        r"windy: CANCELLED '",
        r"what came after event \d+ of brief: Two: more cats\. Three",
    ],
    "stop_and_continue": [
        r"today\n   runs: outline\n(   runs: \w+\n){2}   runs: draft\n   stopped \(time for bed\) after: 'The fog",
        r"tomorrow\n   runs: draft\n   done: 'The fog came first",
        r"\[CANCELLED: outline, details, draft \(cancelled\)\]",
        r"\[COMPLETED \(continues the first\): outline, details, draft\]",
    ],
    "web_stop_button": [
        r'-- stop: \{"cancelled": true, "outcome": "accepted", "reason": "the stop button"\}',
        r'-- stop: \{"cancelled": true, "outcome": "already_cancell\w+", "reason": "the stop button"\}',
        r"the tab was closed: consumer_closed",
        r"\[runs that still go on: 0\]",
    ],
    "budget": [
        r"CANCELLED: budget, the budget of 30 tokens is spent",
        r"CANCELLED: budget, the budget of 3 tool_calls is spent \(4\)",
        r"CANCELLED: budget, the budget of 0\.5 cost is spent",
        r"COMPLETED: paid",
        r"spent: \d\.\d\d",
    ],
    "deadline": [
        r"CANCELLED after .*source: deadline",
        r"CANCELLED after .*source: deadline",
        r"CANCELLED after .*source: stall\n   kept: 'Let me see\.\.\.'",
        r"COMPLETED after .*\n   kept: \"yesterday's prices",
    ],
    "cleanup": [
        r"cancel: accepted, CANCELLING",
        r"the payment went through",
        r"finally: ",
        r"on_cancel: step 'ticket' was interrupted",
        r"compensate: what was paid for 'ticket' comes back",
        r"compensate: room 12 is given back, because it rains",
        r"on_cancel: the trip is off",
        r"then: CANCELLED, abandoned: \[\]",
    ],
    "hard_stop": [
        r"in_a_thread: CANCELLED\n   abandoned: \['in_a_thread'\]\n   still at work: \['in_a_thread'\]",
        r"this process is alive",
        r"in_a_process: CANCELLED\n   abandoned: nothing\n   still at work: nothing",
        r"its process is gone",
    ],
}
#: Needs a provider of its own.
SERVED = "workflow_cancellation"


def run(name: str, *arguments: str, **variables: str) -> str:
    """Run an example to its end, and return what it printed. A warning is an error, and so is a word on stderr."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env={**os.environ, **variables})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def check(printed: str, lines: list[str]) -> None:
    at = 0
    for line in lines:
        found = re.compile(line).search(printed, at)
        assert found, f"after {at} characters there is no {line!r} in:\n{printed}"
        at = found.end()


@pytest.mark.parametrize("name", PRINTS)
def test_an_example(name: str) -> None:
    """It runs offline and prints what makes its point."""
    printed = run(name)
    check(printed, PRINTS[name])
    assert "never printed" not in printed


def test_the_one_with_a_provider() -> None:
    """The story over a real connection: finished steps are kept, the connection is closed, the run is stored."""
    with LoopbackProvider(Reply(tokens=2000, token_interval=0.01)) as provider:
        provider.enqueue(Reply(text="three ideas"))
        key = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "any"}
        printed = run(SERVED, "--after", "0.3", **key)
        told = provider.exchanges[-1]
        told.wait_closed()
        assert told.closed_by == "client"
    check(
        printed,
        [
            r"\[accepted: CANCELL\w+\]",
            r"\[stored as CANCELLED\]",
            r"\[step plan: done, ",
            r"\[step write: cancelled, [1-9]\d* characters kept\]",
        ],
    )


def test_each_is_told_and_short() -> None:
    """Every program is in the table of `examples/README.md` and in this test, and fits on a page or two."""
    programs = {path.stem for path in EXAMPLES.glob("*.py")} - {"choose_model"}
    assert programs == {*PRINTS, SERVED}
    told = re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(programs)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 120, path.name
