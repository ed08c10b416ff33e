"""Credentials in text that is shown."""

from __future__ import annotations

import pytest

from desist.agent import Agent
from desist.db import PostgresDb, SqliteDb
from desist.exceptions import ConfigurationError, DesistError
from desist.models.anthropic import Claude
from desist.models.openai import OpenAIChat, OpenAIResponses
from desist.run.records.redact import redact

SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:hunter2@host:5432/runs",
        "postgresql+psycopg://ann:a@b/hunter2@host/runs",
        "postgres://ann:my hunter2@host/runs can't be reached",
        "redis://:hunter2@host:6379/0",
        "host=h password=hunter2 dbname=runs",
        "host=h password = 'it\\'s hunter2' dbname=runs",
        "host=h password='hunter2",
        "sslpassword=hunter2",
        "postgresql://host/runs?user=ann&password=hunter2&sslmode=require",
        "https://ann:hunter2@host/v1/models can't be reached",
        "https://hunter2@host/v1",
        "ann:hunter2@host/v1 can't be reached",
        "https://ann:hun/ter2?hunter2@host/v1",
        "https://host/v1?api_key=hunter2&x=1",
        "https://host/v1?x=1&key=hunter2",
        "https://host/v1?access_token=hunter2#x",
        "Authorization: Bearer hunter2hunter2",
        "api_key='hunter2'",
        "client_secret=hunter2",
        "wrong key sk-hunter2hunter2",
    ],
)
def test_a_secret_is_taken_out(text: str) -> None:
    """Wherever it stands; twice is as once."""
    shown = redact(text)
    assert SECRET not in shown and "ter2" not in shown and redact(shown) == shown
    if "host" in text:
        assert "host" in shown


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=5 total_tokens=7",
        "http://127.0.0.1:8000 answers",
        "https://host/@name/x?limit=5",
        "postgresql://host:5432/runs: version 4",
        "runs.db: there is no such file",
        "no password was given",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Messages stay messages."""
    assert redact(text) == text


@pytest.mark.parametrize("kind", [OpenAIChat, OpenAIResponses, Claude])
def test_no_model_shows_its_credentials(kind: type) -> None:
    """In its `repr`, in that of its agent, and in the error about its address."""
    more = {"default_headers": {"x": SECRET}, "extra_query": {"key": SECRET}, "extra_body": {"key": SECRET}}
    model = kind(id="m", base_url=f"https://ann:{SECRET}@host/v1", api_key=SECRET, **more)
    assert (
        SECRET not in repr(model)
        and SECRET not in repr(model._settings())
        and SECRET not in repr(model._request_target())
    )
    assert SECRET not in repr(Agent(name="A", model=model)) and SECRET not in str(vars(Agent(name="A", model=model)))
    with pytest.raises(ConfigurationError) as caught:
        kind(id="m", base_url=f"htp://ann:{SECRET}@host/v1", api_key="k").check()
    assert SECRET not in str(caught.value)


def test_no_database_shows_its_credentials() -> None:
    """In its `repr`, and in errors about its address."""
    for make in (
        lambda: SqliteDb(db_url=f"sqlit://ann:{SECRET}@host/x"),
        lambda: PostgresDb(f"postgresql+other://ann:{SECRET}@127.0.0.1:1/x"),
        lambda: PostgresDb(f"postgresql://ann:{SECRET}@127.0.0.1:1/x", timeout=0.1).store,
        lambda: PostgresDb(f"host=127.0.0.1 port=1 password={SECRET}", timeout=0.1).store,
    ):
        with pytest.raises(DesistError) as caught:
            make()
        assert SECRET not in str(caught.value)
