"""Two owners choose the same new id at the same moment: of a session, or of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel
from server_harness import HANG, served, story, until

from desist import Agent, Step, Workflow
from desist.db import BaseDb, InMemoryDb, JsonDb, PostgresDb, SqliteDb
from desist.server import Token
from desist.testing import Gate, ScriptedModel

#: How many pairs ask. Two processes on one database make 200 of each on all of them: `tests/db/test_db_claims.py`.
PAIRS = {"sqlite": 200, "postgres": 200, "json": 20, "memory": 50}
ANN, BOB, BOSS = (f"{name}-secret-0123456789" for name in ("ann", "bob", "boss"))
TOKENS = [
    Token(secret=ANN, name="ann", owner="ann"),
    Token(secret=BOB, name="bob", owner="bob"),
    Token(secret=BOSS, name="boss"),
]


@pytest.fixture(params=["sqlite", "postgres", "json", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> Iterator[BaseDb]:
    kinds: dict[str, Callable[[], BaseDb]] = {
        "sqlite": lambda: SqliteDb(tmp_path / "runs.db", timeout=60),
        "postgres": lambda: PostgresDb(new_postgres(), timeout=60),
        "json": lambda: JsonDb(tmp_path / "runs", timeout=60),
        "memory": InMemoryDb,
    }
    opened = kinds[request.param]()
    opened.pairs = PAIRS[request.param]  # type: ignore[attr-defined]
    yield opened
    opened.close()


def as_(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class Pair:
    """Two clients that send requests at the same moment."""

    def __init__(self, client: httpx2.Client) -> None:
        self._clients = [
            httpx2.Client(base_url=client.base_url, headers=as_(secret), timeout=HANG, trust_env=False)
            for secret in (ANN, BOB)
        ]
        self._both = threading.Barrier(2)
        self._pool = ThreadPoolExecutor(2)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *failure: object) -> None:
        self._pool.shutdown()
        for client in self._clients:
            client.close()

    def post(self, path: str, bodies: tuple[Any, Any], **more: Any) -> list[httpx2.Response]:
        """Return both responses."""

        def ask(client: httpx2.Client, body: Any) -> httpx2.Response:
            self._both.wait(HANG)
            return client.post(path, json=body, **more)

        return list(self._pool.map(ask, self._clients, bodies))


def talker() -> Agent:
    """An agent that sends the model its whole session."""
    return Agent(
        id="talker", model=ScriptedModel("noted", repeat=True), add_history_to_context=True, num_history_runs=100
    )


def heard(agent: Agent) -> list[str]:
    """Return the requests to the model, each as one text."""
    model: Any = agent.model
    return [" ".join(str(message.content) for message in request.messages) for request in model.requests]


def test_one_new_session(db: BaseDb) -> None:
    """Of each pair, one owner gets the session, the other one 404; no request to the model has texts of both."""
    agent = talker()
    with served(agents=[agent], db=db, tokens=TOKENS) as client, Pair(client) as pair:
        for number in range(db.pairs):  # type: ignore[attr-defined]
            bodies = tuple(
                {"agent": "talker", "input": f"{user}-word", "session_id": f"s{number}"} for user in ("ann", "bob")
            )
            answers = pair.post("/v1/runs", bodies)  # type: ignore[arg-type]
            assert sorted(answer.status_code for answer in answers) == [202, 404], number
            won = next(place for place, answer in enumerate(answers) if answer.status_code == 202)
            again = client.post("/v1/runs", json=bodies[1 - won], headers=as_((ANN, BOB)[1 - won]))
            assert again.status_code == 404
            if number % 10 == 0:
                run = client.post("/v1/runs", json=bodies[won], headers=as_((ANN, BOB)[won])).json()
                client.headers.update(as_(BOSS))
                until(client, run["run_id"], lambda run: run["status"] == "COMPLETED")
    assert not [text for text in heard(agent) if "ann-word" in text and "bob-word" in text]


def test_one_new_run_id(db: BaseDb) -> None:
    """Each pair with one `runId` of AG-UI: one gets the run, the other one 404, and finds no run with that id."""
    gate = Gate()
    gate.open()
    with served(story(gate), db=db, tokens=TOKENS) as client, Pair(client) as pair:
        for number in range(db.pairs):  # type: ignore[attr-defined]
            bodies = tuple(
                {
                    "threadId": f"{user}-{number}",
                    "runId": f"r{number}",
                    "messages": [{"id": "m", "role": "user", "content": "go"}],
                }
                for user in ("ann", "bob")
            )
            answers = pair.post("/v1/agui/workflows/story", bodies)  # type: ignore[arg-type]
            assert sorted(answer.status_code for answer in answers) == [200, 404], number
            won = next(place for place, answer in enumerate(answers) if answer.status_code == 200)
            own, other = as_((ANN, BOB)[won]), as_((ANN, BOB)[1 - won])
            run = client.get(f"/v1/runs/r{number}", headers=own).json()
            assert run["user_id"] == ("ann", "bob")[won]
            assert client.get(f"/v1/runs/r{number}", headers=other).status_code == 404


class Held:
    """Holds the first two requests before the decision of a store, until both are there."""

    def __init__(self, store: Any, name: str) -> None:
        self._decide, self._both = getattr(store, name), threading.Barrier(2)
        setattr(store, name, self)

    def __call__(self, wanted: Any) -> Any:
        self._both.wait(HANG)
        return self._decide(wanted)


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/agui/workflows/story"])
def test_both_at_the_decision(tmp_path: Path, path: str) -> None:
    """Both requests have found no such id and are held before the decision: one write wins."""
    gate, db = Gate(), SqliteDb(tmp_path / "runs.db")
    gate.open()
    Held(db.store, "claim_session" if path == "/v1/runs" else "reserve_run")
    with served(story(gate), db=db, tokens=TOKENS) as client, Pair(client) as pair:
        if path == "/v1/runs":
            ask: Any = {"workflow": "story", "input": "go", "session_id": "s"}
            asks = (ask, ask)
        else:
            message = {"id": "m", "role": "user", "content": "go"}
            asks = tuple({"threadId": user, "runId": "r", "messages": [message]} for user in ("ann", "bob"))
        codes = sorted(answer.status_code for answer in pair.post(path, asks))
        assert codes == ([202, 404] if path == "/v1/runs" else [200, 404])
    db.close()


def test_kinds_and_callers() -> None:
    """An id belongs to one owner for workflows and agents alike; a token without an owner doesn't mix two users."""
    gate = Gate()
    gate.open()
    with served(story(gate), agents=[talker()], db=InMemoryDb(), tokens=TOKENS) as client:

        def tried(secret: str, **body: Any) -> int:
            answer = client.post("/v1/runs", json={"input": "go", "session_id": "s", **body}, headers=as_(secret))
            return answer.status_code

        assert tried(ANN, workflow="story") == 202
        assert tried(BOB, agent="talker") == 404
        assert tried(ANN, agent="talker") == 202
        assert tried(BOSS, agent="talker", user_id="bob") == 409
        assert tried(BOSS, agent="talker", user_id="ann") == 202
        assert tried(BOSS, agent="talker") == 202
        assert tried(ANN, agent="talker") == 202  # what the boss has said in it takes nothing away


def test_a_start_that_fails_takes_no_id() -> None:
    """A run that couldn't start because of an invalid input releases its id.

    A live run's id is taken in every database.
    """

    class Order(BaseModel):
        size: int

    gate = Gate()
    strict = Workflow("Strict", steps=[Step("one", executor=lambda given: "done")], input_schema=Order)
    body = {"threadId": "t", "runId": "r", "messages": [{"id": "m", "role": "user", "content": "go"}]}
    agent = Agent(id="talker", model=ScriptedModel("noted", repeat=True), db=InMemoryDb())
    with served(story(gate, db=InMemoryDb()), strict, agents=[agent], tokens=TOKENS) as client:
        wrong = {**body, "messages": [{"id": "m", "role": "user", "content": '{"size": "big"}'}]}
        refused = client.post("/v1/agui/workflows/strict", json=wrong, headers=as_(ANN))
        assert refused.status_code == 422, refused.text
        with client.stream("POST", "/v1/agui/workflows/story", json=body, headers=as_(BOB)) as response:
            assert response.status_code == 200
            gate.wait_reached(timeout=HANG)
            assert client.post("/v1/agui/agents/talker", json=body, headers=as_(ANN)).status_code == 404
            assert client.post("/v1/agui/agents/talker", json=body, headers=as_(BOB)).status_code == 409
            gate.open()
            response.read()
