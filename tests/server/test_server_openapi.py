"""The OpenAPI schema is complete: for any request, the response is one that the schema lists, and never a 5xx."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, not_a_server_error
from server_harness import served

from desist import Agent, Step, Workflow
from desist.server import Limits
from desist.testing import ScriptedModel

WANTED = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def test_every_operation_responds_as_described() -> None:
    """Generated requests, valid and invalid, to every route: no 5xx, and each response is in the schema."""
    quick = Workflow("Quick", steps=[Step("one", executor=lambda given: "done")])
    agent = Agent(name="Bot", model=ScriptedModel("hello", repeat=True))
    with served(quick, agents=[agent], limits=Limits(runs=1000, wait=0.1)) as client:
        known = client.post("/v1/runs", json={"workflow": "quick"}).json()["run_id"]
        schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        checks = [not_a_server_error, *CHECKS.get_by_names(WANTED)]  # known once a schema was loaded
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) >= 20
        for operation in operations:
            _hammer(operation, known, checks)


def _hammer(operation: Any, known: str, checks: list[Any]) -> None:
    """Send generated requests to one operation; half of them name existing objects."""

    @settings(
        max_examples=20,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        path = dict(case.path_parameters or {})
        if "component_id" in path:
            path["component_id"] = "quick" if "/workflows" in operation.path else "bot"
        if len(str(path.get("run_id", ""))) % 2:
            path["run_id"] = known
        case.path_parameters = path
        case.validate_response(case.call(timeout=30), checks=checks)

    check()
