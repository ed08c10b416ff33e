"""Guarantee 13, generated: whatever tree of work a call has started, and whenever it is cancelled: it is true."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from bench.work_trees import CONTAINERS, LEAVES, Node, Server, cancel_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the process table is read through /proc"),
    pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning"),  # transports of interrupted loops
    pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnhandledThreadExceptionWarning"),  # sockets that were shut down
]
#: A thread that can't be stopped, and a child that ignores SIGTERM, take the whole grace: they are rare here.
leaves = st.sampled_from([*LEAVES[:6] * 4, *LEAVES]).map(Node)


def container(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    below = st.lists(children, min_size=1, max_size=3).map(tuple)
    return st.builds(Node, st.sampled_from(CONTAINERS), below)


trees = container(st.recursive(leaves, container, max_leaves=4))


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def shared() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(32, thread_name_prefix="shared-by-trees")
    yield pool
    pool.shutdown()


@given(tree=trees, delay=st.floats(0, 0.05), is_async=st.booleans(), face=st.sampled_from(["run", "arun"]))
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck], report_multiple_bugs=False
)
def test_what_is_left_is_what_is_named(
    tree: Node, delay: float, is_async: bool, face: str, server: Server, shared: ThreadPoolExecutor
) -> None:
    """All threads, jobs, tasks, children and connections are gone or named; all that is listed is still at work."""
    cancel_tree(tree, delay, is_async=is_async, face=face, server=server, shared=shared)
