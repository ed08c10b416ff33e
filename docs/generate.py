"""Write into the docs what is generated from the code: the state diagrams and their tables, and the HTTP reference.

`python docs/generate.py` writes; with `--check` it only reports whether the docs are up to date (exit code 1: not).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from desist.cancel.run_phase import PHASE_MOVES, diagrams
from desist.cancel.status import MOVES, diagram

PAGE = Path(__file__).with_name("design.md")
HTTP = Path(__file__).with_name("http.md")
START, END = "<!-- generated: {} -->", "<!-- /generated -->"


def statuses() -> str:
    """Return the diagram and the table of moves as Markdown."""
    rows = "\n".join(f"| `{at.value}` | {signal.value} | `{to.value}` |" for (at, signal), to in MOVES.items())
    return f"```mermaid\n{diagram()}\n```\n\n| status | signal | becomes |\n|---|---|---|\n{rows}\n"


def phases() -> str:
    """Return the diagrams of the internal states and the table of moves as Markdown."""
    drawn = "\n".join(f"{machine}:\n\n```mermaid\n{diagram}\n```\n" for machine, diagram in diagrams().items())
    rows = "\n".join(
        f"| `{type(at).__name__}` | {at.value} | {event.value} | {to.value} |"
        for (at, event), to in PHASE_MOVES.items()
    )
    return f"{drawn}\n| state of | state | event | becomes |\n|---|---|---|---|\n{rows}\n"


def http_reference() -> str:
    """Return the routes of the server as a page, from its OpenAPI."""
    from desist import Step, Workflow
    from desist.server import create_app

    api = create_app(workflows=[Workflow("w", steps=[Step("s", executor=lambda given: None)])]).openapi()
    lines = ["# HTTP reference", "", "Generated from the server's OpenAPI, which is at `/openapi.json`. How to use it:"]
    lines += ["[Serve it](serve.md). Errors are `application/problem+json`.", ""]
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            lines += [f"## `{method.upper()} {path}`", "", operation["description"], "", *_parts(api, operation)]
    return "\n".join(lines).rstrip() + "\n"


def _parts(api: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    rows = [
        _row(
            given["name"], given["in"], given.get("schema", {}), given.get("required", False), given.get("description")
        )
        for given in operation.get("parameters", ())
    ]
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        known = _known(api, body["schema"])
        needed = known.get("required", ())
        where = "form" if "form" in media else "body"
        for name, schema in known.get("properties", {}).items():
            rows.append(_row(name, where, schema, name in needed, schema.get("description")))
    table = ["| name | in | type | what |", "|---|---|---|---|", *rows, ""] if rows else []
    answers = [f"| {code} | {answer['description']} |" for code, answer in sorted(operation["responses"].items())]
    return [*table, "| answer | means |", "|---|---|", *answers, ""]


def _known(api: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the object that a schema names."""
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            found: dict[str, Any] = api["components"]["schemas"][one["$ref"].rpartition("/")[2]]
            return found
    return schema


def _row(name: str, where: str, schema: dict[str, Any], required: bool, words: str | None) -> str:
    said = ", ".join(part for part in ("required" if required else "", words or "") if part)
    return f"| `{name}` | {where} | {_type(schema)} | {said} |"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(sorted({_type(one) for one in schema["anyOf"]} - {"null"}))
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", "any"))


def pages() -> dict[Path, str]:
    """Return each page as it should be."""
    page = PAGE.read_text()
    for name, made in (("statuses", statuses()), ("phases", phases())):
        start = START.format(name)
        before, found, rest = page.partition(start)
        if not found:
            raise SystemExit(f"{PAGE.name} has no line {start!r}, where the generated part goes")
        page = f"{before}{start}\n{made}{END}{rest.partition(END)[2]}"
    return {PAGE: page, HTTP: http_reference()}


def main() -> int:
    """Write the pages, or check them."""
    outdated = [page for page, made in pages().items() if not page.exists() or page.read_text() != made]
    for page in outdated:
        if "--check" in sys.argv:
            print(f"{page.name} is out of date: run `make docs`")
        else:
            page.write_text(pages()[page])
    return 1 if outdated and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
