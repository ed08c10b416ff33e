"""Check whether configured models can be reached. Providers are asked for their models; a prompt is sent on request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from desist.cli.checks.result import CheckResult, State

__all__ = ["models"]

TIMEOUT = 5.0  #: seconds for a provider's answer
_result = partial(CheckResult, "models")
_OPENAI, _ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com"


def models(ask: str | None) -> Iterator[CheckResult]:
    """Check the providers configured in the environment. `ask` is the id of a model to send a prompt to."""
    yield _openai()
    yield _anthropic()
    yield _local()
    if ask is not None:
        yield _prompt(ask)


def _openai() -> CheckResult:
    key, base = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    if not key and not base:
        return _result("openai", State.absent, "set OPENAI_API_KEY to use one")
    if not key:
        return _result("openai", State.broken, f"OPENAI_BASE_URL is {base}, but OPENAI_API_KEY isn't set")
    url = f"{(base or _OPENAI).rstrip('/')}/models"
    return _reached("openai", url, {"Authorization": f"Bearer {key}"})


def _anthropic() -> CheckResult:
    key = os.environ.get("ANTHROPIC_API_KEY")
    if not key:
        return _result("anthropic", State.absent, "set ANTHROPIC_API_KEY to use one")
    base = os.environ.get("ANTHROPIC_BASE_URL") or _ANTHROPIC
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return _reached("anthropic", f"{base.rstrip('/')}/v1/models", headers)


def _reached(name: str, url: str, headers: dict[str, str]) -> CheckResult:
    import httpx2

    try:
        answer = httpx2.get(url, headers=headers, timeout=TIMEOUT)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return _result(name, State.broken, f"{url} can't be reached: {error or type(error).__name__}")
    if answer.status_code in (401, 403):
        return _result(name, State.broken, f"{url} rejects the key: {answer.status_code}")
    if answer.status_code >= 500:
        return _result(name, State.broken, f"{url} fails: {answer.status_code}")
    lists = "and accepts the key" if answer.is_success else f"and lists no models ({answer.status_code})"
    return _result(name, State.ok, f"{url} answers {lists}")


def _local() -> CheckResult:
    from desist.exceptions import DesistError
    from desist.models.local.install import PARTS
    from desist.models.local.weights import find_weights, refuse_missing_runtime

    if not any(part.installed for part in PARTS):
        return _result("local", State.absent, "desist model install")
    try:
        refuse_missing_runtime()
        return _result("local", State.ok, str(find_weights().path))
    except DesistError as error:
        return _result("local", State.broken, str(error))


def _prompt(model: str) -> CheckResult:
    from desist.agent.agent import Agent
    from desist.models.openai import OpenAIChat

    output = Agent(OpenAIChat(id=model, max_tokens=5), name="doctor").run("Say: ok", timeout=30.0)
    answer = str(output.content or "")[:200]
    if output.status.value == "COMPLETED":
        return _result(model, State.ok, f"it answered {answer!r}")
    return _result(model, State.broken, f"{output.status.value}: {answer}")
