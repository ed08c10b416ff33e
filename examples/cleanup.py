"""A trip is booked step by step, and called off in the middle: what was done is undone, the last thing first.

    python examples/cleanup.py                  # scripted

What to look at: `finally` runs in what was interrupted; `on_cancel` of that step comes next; then `compensate` of all
that had begun, in reverse; then the workflow's own hook. All of it before the run's end is told, within its grace. The
ticket was being paid for when the cancel came: the shield lets that end, so that it isn't half paid.
"""

from __future__ import annotations

import threading

from desist import Step, StepInput, StepOutput, Workflow, shield
from desist.cancel import CancelRecord
from desist.testing import Gate

paying = threading.Event()
bank = Gate("the bank answers")


def reserve_hotel(_: StepInput) -> str:
    """Done when the cancel comes."""
    return "room 12"


def buy_ticket(_: StepInput) -> str:
    """Interrupted, but not in the middle of the payment."""
    try:
        with shield(budget=2):  # seconds that it may take though a cancel has come
            paying.set()
            bank.wait_blocking()
            print("   the payment went through, all of it")
        # a cancel that came meanwhile arrives here
        print("   never printed: the ticket is on its way")
    finally:
        print("   finally: the connection to the shop is closed")
    return "seat 7"


def send_postcard(_: StepInput) -> str:
    """Never starts."""
    return "sent"


def cancel_room(output: StepOutput, record: CancelRecord) -> None:
    """Undo a step that had finished."""
    print(f"   compensate: {output.content} is given back, because {record.reason}")


def refund(output: StepOutput) -> None:
    """Undo a step that was interrupted: what it has paid must come back."""
    print(f"   compensate: what was paid for {output.step_name!r} comes back")


def note(output: StepOutput) -> None:
    """Told about the interruption alone."""
    print(f"   on_cancel: step {output.step_name!r} was interrupted")


workflow = Workflow(
    "Trip",
    steps=[
        Step("hotel", executor=reserve_hotel, compensate=cancel_room),
        Step("ticket", executor=buy_ticket, on_cancel=note, compensate=refund),
        Step("postcard", executor=send_postcard),
    ],
    on_cancel=lambda output: print(f"   on_cancel: the trip is off; done was: {output.step_results[0].step_name}"),
    grace=5,  # seconds that cleaning up may take
)


def main() -> None:
    """Book; call it off; look at what was done about it."""
    events = workflow.run("Oslo", stream=True)
    paying.wait()
    receipt = workflow.cancel(events.run_id, reason="it rains", by="ann", compensate=True)
    print(f"cancel: {receipt.outcome.value}, {receipt.status.value}; the payment is still under its shield")
    bank.open()
    receipt.wait()
    print(f"then: {receipt.status.value}, abandoned: {receipt.abandoned}")
    for done in receipt.record.cleanup:
        print(f"   {done.kind:<10} {done.name:<7} {done.status}")


if __name__ == "__main__":
    main()
