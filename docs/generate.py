"""Write the generated parts of the docs: states, import rules, the HTTP reference.

`python docs/generate.py` writes them. With `--check` the script reports pages that are out of date and exits with 1.
A generated part stands between `<!-- generated: NAME -->` and `<!-- /generated -->`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from desist.cancel.run_phase import PHASE_MOVES, diagrams
from desist.cancel.status import MOVES, diagram

DOCS = Path(__file__).parent
ROOT = DOCS.parent
ARCHITECTURE, HTTP, CONTRIBUTING = DOCS / "architecture.md", DOCS / "http.md", ROOT / "CONTRIBUTING.md"
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def statuses() -> str:
    """Return the diagram and the table of transitions as Markdown."""
    rows = "\n".join(f"| `{at.value}` | {signal.value} | `{to.value}` |" for (at, signal), to in MOVES.items())
    return f"```mermaid\n{diagram()}\n```\n\n| status | signal | becomes |\n|---|---|---|\n{rows}\n"


def _contracts() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the package, the layers as Markdown, and the exceptions of each import-linter contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    for contract in settings["contracts"]:
        layers = "```text\n" + "\n".join(contract["layers"]) + "\n```\n"
        yield ", ".join(contract["containers"]), layers, contract.get("ignore_imports", [])


def contracts() -> str:
    """Return all import-linter contracts, with the imports that are still exempt from them."""
    texts = []
    for package, layers, exempt in _contracts():
        texts.append(f"Inside `{package}`:\n\n{layers}")
        if exempt:
            texts.append("Exempt:\n\n" + "".join(f"- `{edge}`\n" for edge in exempt))
    return "\n".join(texts)


def layers() -> str:
    """Return the contract of the top packages."""
    return next(layers for package, layers, _ in _contracts() if package == "desist")


def phases() -> str:
    """Return the diagrams of the internal states and the table of moves as Markdown."""
    drawn = "\n".join(f"{machine}:\n\n```mermaid\n{diagram}\n```\n" for machine, diagram in diagrams().items())
    rows = "\n".join(
        f"| `{type(at).__name__}` | {at.value} | {event.value} | {to.value} |"
        for (at, event), to in PHASE_MOVES.items()
    )
    return f"{drawn}\n| state of | state | event | becomes |\n|---|---|---|---|\n{rows}\n"


PARTS = {"statuses": statuses, "phases": phases, "contracts": contracts, "layers": layers}


def http_reference() -> str:
    """Return the routes of the server as a page, from its OpenAPI."""
    from desist import Step, Workflow
    from desist.server import create_app

    api = create_app(workflows=[Workflow("w", steps=[Step("s", executor=lambda step_input: None)])]).openapi()
    lines = ["# HTTP reference", "", "Generated from the server's OpenAPI, which is at `/openapi.json`. How to use it:"]
    lines += ["[Serve it](serve.md). Errors are `application/problem+json`.", ""]
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            lines += [f"## `{method.upper()} {path}`", "", operation["description"], "", *_parts(api, operation)]
    return "\n".join(lines).rstrip() + "\n"


def _parts(api: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    rows = [
        _row(
            parameter["name"],
            parameter["in"],
            parameter.get("schema", {}),
            parameter.get("required", False),
            parameter.get("description"),
        )
        for parameter in operation.get("parameters", ())
    ]
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        schema_object = _resolve(api, body["schema"])
        required = schema_object.get("required", ())
        location = "form" if "form" in media else "body"
        for name, schema in schema_object.get("properties", {}).items():
            rows.append(_row(name, location, schema, name in required, schema.get("description")))
    table = ["| name | in | type | what |", "|---|---|---|---|", *rows, ""] if rows else []
    responses = [f"| {code} | {response['description']} |" for code, response in sorted(operation["responses"].items())]
    return [*table, "| answer | means |", "|---|---|", *responses, ""]


def _resolve(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the object schema that `schema` refers to."""
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            found: dict[str, Any] = api["components"]["schemas"][one["$ref"].rpartition("/")[2]]
            return found
    return schema


def _row(name: str, location: str, schema: dict[str, Any], required: bool, description: str | None) -> str:
    text = ", ".join(part for part in ("required" if required else "", description or "") if part)
    return f"| `{name}` | {location} | {_type(schema)} | {text} |"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(sorted({_type(one) for one in schema["anyOf"]} - {"null"}))
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", "any"))


def pages() -> dict[Path, str]:
    """Return each page with its generated parts."""
    texts = {page: PART.sub(_part, page.read_text()) for page in (ARCHITECTURE, CONTRIBUTING)}
    return {**texts, HTTP: http_reference()}


def _part(found: re.Match[str]) -> str:
    return f"{found[1]}{PARTS[found[2]]()}{found[3]}"


def main() -> int:
    """Write the pages, or check them."""
    made = pages()
    outdated = [page for page, text in made.items() if not page.exists() or page.read_text() != text]
    for page in outdated:
        if "--check" in sys.argv:
            print(f"{page.name} is out of date: run `make docs`")
        else:
            page.write_text(made[page])
    return 1 if outdated and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
