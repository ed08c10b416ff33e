"""A run of trivial steps in langgraph with a checkpointer: `python -m bench.peers.langgraph_steps URL STEPS COUNT`.

With its default durability: checkpoints are written while the next step runs, and all of them before the call returns.
"""

from __future__ import annotations

import sys
from typing import Any, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from bench.peers.common import report, timed


class State(TypedDict):
    """The state of a run."""

    text: str


def _step(state: State) -> State:
    return {"text": "done"}


def _graph(steps: int, saver: Any) -> Any:
    graph = StateGraph(State)
    names = [f"step {number}" for number in range(steps)]
    for name in names:
        graph.add_node(name, _step)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=saver)


def main() -> None:
    """Measure."""
    url, steps, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if url.startswith("postgresql"):
        opened: Any = PostgresSaver.from_conn_string(url)
    else:
        opened = SqliteSaver.from_conn_string(url.removeprefix("sqlite:///"))
    with opened as saver:
        saver.setup()
        graph = _graph(steps, saver)
        report(timed(lambda n: graph.invoke({"text": "go"}, {"configurable": {"thread_id": str(n)}}), count))


if __name__ == "__main__":
    main()
