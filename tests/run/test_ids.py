"""Fresh ids: never the same twice, whoever asks."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid

from desist.run.records.ids import new_id, new_uuid

_FORKED = """
import os
from desist.run.records.ids import new_id
new_id()  # more are drawn by now, and a child would have the same
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, new_id().encode())
    os._exit(0)
os.wait()
print(new_id() != os.read(reading, 100).decode())
"""


def test_an_id_is_a_random_uuid() -> None:
    """Ids are UUIDs of version 4, as the API has them."""
    assert new_uuid().version == 4
    assert str(uuid.UUID(new_id())) != new_id()


def test_threads_never_get_the_same_id() -> None:
    """Eight threads that draw at the same time share none."""
    found: list[str] = []

    def draw() -> None:
        found.extend([new_id() for _ in range(2000)])

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 16_000


def test_a_forked_child_draws_its_own() -> None:
    """What was drawn before a fork isn't used on both sides."""
    told = subprocess.run(
        [sys.executable, "-c", _FORKED], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    assert told == "True\n"
