"""`docs/architecture.md` matches the code: each hop exists and is called by the hop before it, each package is listed.

To adapt the page to a changed call, change the row of the table. A row is
`| hop | called by | file | function | action |`; "called by" is the number of an earlier hop of the same table, or a
word for something outside of the table (`user`, `task`).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "desist"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

TABLE = re.compile(r"<!-- (path: [\w ]+|names|packages) -->\n((?:\|.*\n)+)")
#: The longest path that a reader has to follow.
MAX_HOPS = 10

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Hop:
    """One row of a path."""

    path: str
    number: int
    caller: str
    file: str
    function: str

    def __str__(self) -> str:
        return f"{self.path} {self.number}: {self.function}"


def tables() -> dict[str, list[list[str]]]:
    """Return the rows of each marked table, without its head."""
    return {
        name: [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in body.splitlines()[2:]]
        for name, body in TABLE.findall(PAGE)
    }


TABLES = tables()
PATHS = {
    name.removeprefix("path: "): [
        Hop(name.removeprefix("path: "), int(number), caller, file, function)
        for number, caller, file, function, _ in rows
    ]
    for name, rows in TABLES.items()
    if name.startswith("path: ")
}
HOPS = [hop for hops in PATHS.values() for hop in hops]


@cache
def parse(file: str) -> ast.Module:
    return ast.parse((SOURCE / file).read_text())


def find(file: str, qualified_name: str) -> Function:
    """Return the function that this file defines; fail if there is no such class or function in it."""
    body = parse(file).body
    *classes, name = qualified_name.split(".")
    for class_name in classes:
        found = [node for node in body if isinstance(node, ast.ClassDef) and node.name == class_name]
        assert found, f"src/desist/{file} defines no class {class_name}"
        body = found[0].body
    functions = [node for node in body if isinstance(node, Function) and node.name == name]
    assert functions, f"src/desist/{file} defines no function {qualified_name}"
    return functions[-1]


def mentions(function: Function) -> set[str]:
    """Return the names and attributes that the body of a function uses."""
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return used | {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}


def test_the_page_has_its_paths() -> None:
    """A cancel request, an event and the output of a step are followed, each in at most ten hops."""
    assert {"cancel", "event", "step output"} <= PATHS.keys()
    for path, hops in PATHS.items():
        assert [hop.number for hop in hops] == list(range(1, len(hops) + 1)), path
        assert 1 < len(hops) <= MAX_HOPS, path


@pytest.mark.parametrize("hop", HOPS, ids=str)
def test_hops_exist_and_are_called(hop: Hop) -> None:
    """The function of a hop is defined in the file, and the function of the calling hop uses its name."""
    find(hop.file, hop.function)
    if hop.caller.isdigit():
        caller = PATHS[hop.path][int(hop.caller) - 1]
        assert caller.number < hop.number
        name = hop.function.rpartition(".")[2]
        assert name in mentions(find(caller.file, caller.function)), f"{caller.function} does not call {name}"


@pytest.mark.parametrize("row", TABLES["names"], ids=lambda row: row[0])
def test_listed_functions_exist(row: list[str]) -> None:
    """Each kind of work that a cancel interrupts is interrupted by a function of the file that the page names."""
    _, file, function = row
    find(file, function)


def test_packages_are_listed() -> None:
    """The page lists exactly the packages of the source tree."""
    packages = {file.parent.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py")} - {"."}
    assert {row[0] for row in TABLES["packages"]} == packages
