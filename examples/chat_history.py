"""A chat that remembers, also after the program has ended, and also what it was stopped in.

    python examples/chat_history.py             # scripted: three visits, one after the other
    python examples/chat_history.py --model gpt-5-mini

What to look at: nothing is carried along by hand. Each visit makes a new agent, as a new process would; the file knows
the rest. The second answer is stopped in the middle: the next request holds it as far as it came, and is a valid
history for every provider.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from choose_model import chosen_model

from desist import Agent, cancel_run
from desist.db import SqliteDb
from desist.models.base import ModelRequest

TALE = "It begins on a small ship far out at sea, in a night without stars, and the captain is a cat called Miso."


def remember(request: ModelRequest) -> str:
    """What the script answers to the last question: it reads the history, as a model would."""
    said = [message.content or "" for message in request.messages]
    name = "Ada" if any("I am Ada" in words for words in said) else "a stranger"
    tale = next((words.strip() for words in said if "ship" in words), "nothing")
    return f"You are {name}. I was telling you: '{tale}' ..."


def visit(file: Path, model: Any, words: str, *, stop_after: int | None = None) -> None:
    """Come in, say something, and leave; interrupt the answer after so many pieces."""
    db = SqliteDb(file)
    agent = Agent(model, name="Companion", db=db, session_id="ada", add_history_to_context=True)
    print(f"\nyou: {words}\n it: ", end="")
    events = agent.run(words, stream=True)
    for number, event in enumerate(events, 1):
        if event.event == "RunContent":
            print(event.content, end="", flush=True)
            if number == stop_after:
                cancel_run(event.run_id)
        elif event.event == "RunCancelled":
            print("-- [stopped]", end="")
    print()
    db.close()


def main() -> None:
    """Three visits, then look into the file."""
    model = chosen_model(__doc__)
    hello, tale, answer = model("Hello Ada! I will remember."), model(TALE), model([remember])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chat.db"
        visit(file, hello, "I am Ada.")
        visit(file, tale, "Tell me a story.", stop_after=10)
        visit(file, answer, "Who am I, and where were we?")
        db = SqliteDb(file)
        session = db.get_session("ada")
        print(f"\n[in {file.name}: {[run.status.value for run in session.runs]}]")
        db.close()


if __name__ == "__main__":
    main()
