"""What every store keeps, in memory, in SQLite and in files alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from desist.db import AsyncPostgresDb, AsyncSqliteDb, BaseDb, PostgresDb, SqliteDb
from desist.exceptions import ConfigurationError, StoreError
from desist.run.agent import RunOutput
from desist.run.events.base import RunStatus
from desist.run.records.message import Message
from desist.run.storage.store import SessionUpdate, StoredRun
from desist.run.workflow import WorkflowRunOutput
from desist.session import AgentSession, WorkflowSession
from desist.workflow import StepOutput

S = RunStatus


def save(db: BaseDb, run: StoredRun) -> None:
    done = db.store.save_run(run)
    if done is not None:
        done.result()


def agent_run(run_id: str = "r", status: RunStatus = S.completed, **known: Any) -> StoredRun:
    output = RunOutput(run_id=run_id, agent_id="a", session_id="s", content=f"text of {run_id}", status=status)
    named = {"session_id": "s", "owner_id": "a", "root_run_id": run_id} | known
    return StoredRun(run_id=run_id, kind="agent", status=status, output=output, **named)


def test_a_run_comes_back(db: BaseDb) -> None:
    """A run comes back as it was saved, of the class that it was."""
    steps = [
        StepOutput(step_name="one", content="1"),
        StepOutput(step_name="box", steps=[StepOutput(step_name="in", content={"a": [1]})]),
    ]
    output = WorkflowRunOutput(run_id="w", session_id="s", status=S.completed, content="done", step_results=steps)
    known = {"root_run_id": "w", "session_id": "s", "owner_id": "flow", "user_id": "u"}
    save(db, StoredRun(run_id="w", kind="workflow", status=S.completed, output=output, **known))
    found = db.store.load_run("w")
    assert found is not None
    assert (found.status, found.session_id, found.owner_id, found.user_id) == (S.completed, "s", "flow", "u")
    assert found.output == output
    assert isinstance(found.output.step_results[1].steps[0], StepOutput)


def test_the_last_save_counts(db: BaseDb) -> None:
    """A run is replaced by what is saved under its id later; there is one record."""
    save(db, agent_run(status=S.error))
    save(db, agent_run(status=S.completed))
    assert [run.status for run in db.get_runs("s")] == [S.completed]


def test_unknown_things(db: BaseDb) -> None:
    """What isn't there is None, an empty list, False; nothing raises."""
    store = db.store
    assert store.load_run("no") is None
    assert store.load_session("no", "agent") is None
    assert store.session_runs("no") == []
    assert store.list_sessions() == []
    assert not store.delete_run("no")
    assert not store.delete_session("no")
    assert db.get_session("no") is None
    assert db.rename_session("no", "name") is None


def test_runs_of_a_session(db: BaseDb) -> None:
    """Runs come in the order of their starts, the oldest first; the last `limit` of the kind and owner asked for."""
    for number in range(5):
        save(db, agent_run(f"r{number}", created_at=1000.0 + number))
    save(db, agent_run("other", owner_id="b", created_at=2000.0))
    save(db, agent_run("elsewhere", session_id="t", created_at=2001.0))
    ids = [run.run_id for run in db.store.session_runs("s", kind="agent", owner_id="a", limit=3)]
    assert ids == ["r2", "r3", "r4"]
    assert [run.run_id for run in db.store.session_runs("s")][-1] == "other"
    assert db.store.session_runs("s", kind="workflow") == []
    assert db.store.session_runs("s", limit=0) == []


def test_a_session_is_stored_with_its_run(db: BaseDb) -> None:
    """What a run changes in its session is stored together with it."""
    change = SessionUpdate(session_id="s", kind="agent", owner_id="a", user_id="u", after={"n": 1})
    save(db, agent_run(session=change))
    session = db.get_session("s")
    assert isinstance(session, AgentSession)
    assert (session.agent_id, session.user_id, session.session_state) == ("a", "u", {"n": 1})
    assert [run.run_id for run in session.runs] == ["r"]


def test_changes_side_by_side(db: BaseDb) -> None:
    """Runs that began with the same state and ended one after the other both keep what they changed."""
    start = {"kept": 0, "left": 1, "right": 1, "gone": 1}
    update(db, after=start)
    update(db, before=start, after={"kept": 0, "left": 2, "right": 1, "gone": 1})
    update(db, before=start, after={"kept": 0, "left": 1, "right": 2, "new": 3})
    session = db.store.load_session("s", "agent")
    assert session is not None
    assert session.session_data["session_state"] == {"kept": 0, "left": 2, "right": 2, "new": 3}


def update(db: BaseDb, **change: Any) -> None:
    done = db.store.update_session(SessionUpdate(session_id="s", kind="agent", **change))
    if done is not None:
        done.result()


def test_a_session_given_back_is_the_callers(db: BaseDb) -> None:
    """Changing what was loaded changes nothing that is stored."""
    update(db, after={"list": [1]})
    session = db.store.load_session("s", "agent")
    assert session is not None
    session.session_data["session_state"]["list"].append(2)
    again = db.store.load_session("s", "agent")
    assert again is not None and again.session_data["session_state"] == {"list": [1]}


def test_listing_sessions(db: BaseDb) -> None:
    """Sessions are listed by kind, owner and user, the one that changed last first."""
    for number, (kind, owner, user) in enumerate(
        [("agent", "a", "u"), ("agent", "b", "u"), ("workflow", "w", "v"), ("agent", "a", "v")]
    ):
        change = SessionUpdate(session_id=f"s{number}", kind=kind, owner_id=owner, user_id=user)
        done = db.store.update_session(change)
        if done is not None:
            done.result()
    assert [one.session_id for one in db.store.list_sessions()] == ["s3", "s2", "s1", "s0"]
    assert [one.session_id for one in db.store.list_sessions(kind="agent", user_id="u")] == ["s1", "s0"]
    assert [one.session_id for one in db.get_sessions(component_id="a", limit=1)] == ["s3"]
    assert [type(one) for one in db.get_sessions("workflow")] == [WorkflowSession]


def test_deleting(db: BaseDb) -> None:
    """A deleted session takes its runs with it; those of another kind stay, unless all are meant."""
    update(db, after={"n": 1})
    save(db, agent_run())
    save(db, StoredRun(run_id="w", kind="workflow", status=S.completed, output=flow("w"), **named("w")))
    assert db.delete_session("s", "agent")
    assert db.get_run("r") is None and db.get_session("s", "agent") is None
    assert db.get_run("w") is not None
    assert db.delete_session("s")
    assert db.get_run("w") is None
    assert not db.delete_session("s")


def flow(run_id: str) -> WorkflowRunOutput:
    return WorkflowRunOutput(run_id=run_id, session_id="s", status=S.completed)


def named(run_id: str) -> dict[str, Any]:
    return {"root_run_id": run_id, "session_id": "s", "owner_id": "w"}


def test_the_databases_face(db: BaseDb) -> None:
    """Programs write, rename and delete runs and sessions through the database itself."""
    db.upsert_session(AgentSession(session_id="s", agent_id="a", session_data={"session_state": {"n": 1}}))
    db.upsert_run(agent_run().output)
    session = db.rename_session("s", "my chat")
    assert (session.session_name, session.session_state, len(session.runs)) == ("my chat", {"n": 1}, 1)
    assert db.get_session("s", user_id="somebody") is not None, "it is nobody's"
    assert [run.run_id for run in db.get_runs("s", status=S.completed)] == ["r"]
    assert db.get_runs("s", status=S.cancelled) == []
    assert db.delete_run("r") and db.get_runs("s") == []


def test_whose_session(db: BaseDb) -> None:
    """A session of one user isn't given to another."""
    done = db.store.update_session(SessionUpdate(session_id="s", kind="agent", user_id="u"))
    if done is not None:
        done.result()
    assert db.get_session("s", user_id="v") is None
    assert db.get_session("s", user_id="u") is not None


def test_bad_names(db: BaseDb) -> None:
    """An unknown session type is refused with the ones that there are; a run without an id can't be stored."""
    with pytest.raises(ConfigurationError, match="'team' must be one of workflow, agent"):
        db.get_session("s", "team")
    with pytest.raises(ConfigurationError, match="run_id"):
        db.upsert_run(RunOutput())


@pytest.mark.parametrize("name", ["plain", "with/slash and ~ tilde", "ünï", "x" * 500, ".", "", "a\x00b\n"])
def test_any_id(on_disk: BaseDb, name: str) -> None:
    """Ids are whatever programs use: none is taken for a path, and none is cut so that two meet."""
    save(on_disk, agent_run(name, session_id=name, root_run_id=name))
    save(on_disk, agent_run(name + "2", session_id=name + "2", root_run_id=name))
    assert on_disk.get_run(name).content == f"text of {name}"
    assert [run.run_id for run in on_disk.store.session_runs(name)] == [name]


def test_odd_values(on_disk: BaseDb) -> None:
    """Values that JSON doesn't know are stored as text or lists, and harm nobody."""
    odd = {"set": {2, 1}, "nan": float("nan"), "big": 2**70, "bytes": b"x", "half": "\ud800", 3: object}
    update(on_disk, after=odd)
    session = on_disk.store.load_session("s", "agent")
    assert session is not None
    state = session.session_data["session_state"]
    assert (state["set"], state["nan"], state["big"]) == ([1, 2], None, str(2**70))


def test_parts_make_a_run_in_progress(on_disk: BaseDb) -> None:
    """What has finished in a run that goes on can be seen by who can't see the run itself; its end drops the parts."""
    store = on_disk.store
    elsewhere = {"process": "elsewhere/1|boot|1|1"}
    save(on_disk, agent_run(status=S.pending, **elsewhere))
    store.add_part("r", "message", Message("user", "forgotten"))
    store.add_part("r", "again", None)
    store.add_part("r", "message", Message("user", "hello"))
    on_disk.flush()
    found = store.load_run("r")
    assert found is not None
    assert found.status is S.running
    assert [message.content for message in found.output.messages] == ["hello"]
    save(on_disk, agent_run(status=S.completed))
    store.add_part("r", "message", Message("user", "too late"))
    on_disk.flush()
    ended = store.load_run("r")
    assert ended is not None and ended.status is S.completed and ended.output.messages is None


def test_a_run_elsewhere_is_left_alone(on_disk: BaseDb) -> None:
    """Guarantee 12: a run of a process on another machine, or of a live one here, isn't ended by a look."""
    save(on_disk, agent_run(status=S.running, process="elsewhere/1|boot|1|1"))
    assert on_disk.store.session_runs("s") == []
    assert on_disk.get_run("r").status is S.running


def test_closing(on_disk: BaseDb) -> None:
    """What was left is written; afterwards a closed database says so, and can be opened anew."""
    store = on_disk.store
    store.save_run(agent_run())
    on_disk.close()
    with pytest.raises(StoreError, match="is closed"):
        _ = on_disk.store
    with pytest.raises(StoreError, match="is closed"):
        store.save_run(agent_run("late")).result()  # type: ignore[union-attr]
    on_disk.close()
    again = type(on_disk)(getattr(on_disk, "db_url", None) or store.backend.path)  # type: ignore[attr-defined, call-arg]
    assert again.get_run("r") is not None
    again.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_awaited(kind: str, tmp_path: Any, anyio_backend: str, new_postgres: Callable[[], str]) -> None:
    """The async database is the same one with methods that are awaited."""
    place = new_postgres() if kind == "postgres" else tmp_path / "runs.db"
    db: Any = AsyncPostgresDb(place) if kind == "postgres" else AsyncSqliteDb(place)
    await db.upsert_run(agent_run().output)
    await db.upsert_session(AgentSession(session_id="s", agent_id="a"))
    assert (await db.get_run("r")).content == "text of r"
    assert (await db.rename_session("s", "name")).session_name == "name"
    assert [run.run_id for run in (await db.get_session("s")).runs] == ["r"]
    sync: Any = PostgresDb(place) if kind == "postgres" else SqliteDb(place)
    assert sync.store is db.store, "one writer for a place"
    sync.close()
    assert await db.delete_run("r")
    await db.flush()
    report = await db.check()
    problems = [one for one in report.problems if "of the server is off" not in one]
    assert report.version == report.wanted > 0 and not problems
    await db.close()
    with pytest.raises(StoreError, match="is closed"):
        await db.get_run("r")


def test_many_threads(db: BaseDb) -> None:
    """Threads that save, look and delete at the same time disturb nobody."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                run_id = f"{number}-{turn}"
                save(db, agent_run(run_id, session=SessionUpdate(session_id="s", kind="agent", after={run_id: turn})))
                assert db.get_run(run_id) is not None
                assert db.store.delete_run(run_id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    session = db.store.load_session("s", "agent")
    assert session is not None and len(session.session_data["session_state"]) == 120
