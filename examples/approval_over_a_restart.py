"""An agent asks whether it may pay; its process ends; another one takes the answer, with another amount, and goes on.

Two database objects on one file, opened one after the other, play the two processes. The guarded call is made once,
although two people answer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from desist import Agent, answer, pending, tool
from desist.db import SqliteDb
from desist.models.base import ModelRequest
from desist.testing import Call, ScriptedModel


@tool(requires_confirmation=True, answer_timeout=3 * 24 * 3600)
def pay(amount: int) -> str:
    """Pay an amount to the printer's shop."""
    print(f"  >>> {amount} paid")
    return f"paid {amount}"


def model(request: ModelRequest) -> Call | str:
    """Ask to pay, then report the result."""
    last = request.messages[-1]
    return f"Done: {last.content}." if last.role == "tool" else Call("pay", {"amount": 500})


def agent_on(db: SqliteDb) -> Agent:
    """Return the agent, as each process makes it."""
    return Agent(ScriptedModel([model], repeat=True), name="buyer", tools=[pay], db=db)


def main() -> None:
    """Pause in one process, answer and continue in another."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "runs.db"
        first = SqliteDb(file)
        output = agent_on(first).run("Buy a printer.")
        print(f"{output.status.value}: {output.content}")
        first.close()  # days pass; nothing runs

        second = SqliteDb(file)
        run_id = output.run_id or ""
        asked = pending(run_id, db=second)[0]
        print(f"waits: {asked.asked['tool_name']} {asked.asked['tool_args']}")
        receipt = answer(
            run_id,
            asked.requirement_id,
            "edit",
            arguments={"amount": 450},
            by="ann",
            digest=asked.digest,
            db=second,
        )
        late = answer(run_id, asked.requirement_id, "reject", by="bob", db=second)
        print(f"ann: {receipt.outcome.value}; bob: {late.outcome.value} by {late.by}")
        done = agent_on(second).continue_run(run_id=run_id)
        print(f"{done.status.value}: {done.content}")
        second.close()


if __name__ == "__main__":
    main()
