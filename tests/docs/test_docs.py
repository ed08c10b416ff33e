"""The docs match the code: programs run and print the documented output, links have targets, names exist.

A Python block runs as a program of its own, with a scripted provider behind OPENAI_BASE_URL. `<!-- fragment -->` on
the line before a block marks a block that is not a whole program. `<!-- prints -->` before the text block that follows
marks the exact output of the program.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import desist
from desist.run.component.component import Component
from desist.run.component.options import WorkflowOptions
from desist.testing import LoopbackProvider, Reply

ROOT = Path(__file__).parents[2]
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "examples/README.md")
    ),
    *sorted((ROOT / "docs").glob("*.md")),
]
REFERENCE = ROOT / "docs" / "reference.md"

BLOCK = re.compile(
    r"(?P<fragment><!-- fragment -->\n)?^```python\n(?P<code>.*?)^```\n"
    r"(?:\n*<!-- prints -->\n```text\n(?P<prints>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"desist(\.[A-Za-z_]\w*)+")
CALL = re.compile(r"@?[A-Za-z_][\w.]*\([^()]*=[^()]*\)")
ROW = re.compile(r"^\| `([A-Za-z_]\w*)")


#: Modules whose names the reference lists.
PUBLIC = [
    "desist",
    "desist.cancel",
    "desist.db",
    "desist.engine",
    "desist.exceptions",
    "desist.models.anthropic",
    "desist.models.http",
    "desist.models.openai",
    "desist.server",
    "desist.session",
    "desist.testing",
    "desist.tools",
]


@dataclass(frozen=True)
class Block:
    """One Python block of a page."""

    page: Path
    line: int
    code: str
    fragment: bool
    prints: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("code")) + 1
            yield Block(page, line, found["code"], found["fragment"] is not None, found["prints"])


BLOCKS = list(blocks())
#: Dotted names in strings of the code: loggers, attributes of spans.
STRINGS = {
    found[1]
    for source in (ROOT / "src").rglob("*.py")
    for found in re.finditer(r'"(desist(?:\.\w+)+)"', source.read_text())
}
PROGRAMS = [block for block in BLOCKS if not block.fragment]


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_programs_run(block: Block, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A program in the docs runs, and prints the documented output."""
    slow = Reply(tokens=2000, token_interval=0.02)
    with LoopbackProvider(slow) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "any text")
        padding = "\n" * (block.line - 1)  # so that a traceback names the page's line
        exec(compile(padding + block.code, block.page, "exec"), {"__name__": "__main__"})
    if block.prints is not None:
        printed = capsys.readouterr().out.splitlines()
        assert [line.rstrip() for line in printed] == block.prints.splitlines()


def test_every_block_was_seen() -> None:
    """Every Python block is tested: none is missed because of its indentation or a malformed fence."""
    fences = sum(len(re.findall(r"```\s*py", page.read_text())) for page in PAGES)
    assert len(BLOCKS) == fences
    assert PROGRAMS


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_imports_exist(block: Block) -> None:
    """Fragments are valid Python, and the names that they import from desist exist."""
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("desist"):
            for name in node.names:
                assert resolve(f"{node.module}.{name.name}") is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links and pictures point to files and headings that exist."""
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}, which doesn't exist"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}, but {file.name} has no such heading"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "promise.md"], ids=lambda page: page.name)
def test_the_promise_links_the_tests_of_each_guarantee(page: Path) -> None:
    """The README and the promise are the index of `tests/promise`: each file of a guarantee is linked there."""
    linked = {Path(target).name for target in LINK.findall(page.read_text())}
    files = {file.name for file in (ROOT / "tests" / "promise").glob("test_guarantee_*.py")}
    assert files and not files - linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_exist(page: Path) -> None:
    """A page names no module, class, function, parameter, file or make target that doesn't exist."""
    for code in INLINE.findall(FENCE.sub("", page.read_text())):
        for dotted in DOTTED.finditer(code):
            if dotted[0] not in STRINGS:
                resolve(dotted[0])
        if CALL.fullmatch(code):
            check_parameters(code, page)
        if re.fullmatch(r"(src|docs|tests|bench|examples)/[\w./-]+", code):
            assert (ROOT / code).exists(), f"{page.name} names {code}, which doesn't exist"
        if target := re.fullmatch(r"make ([\w-]+)", code):
            assert re.search(rf"^{target[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), code


def reference() -> dict[str, set[str]]:
    """Return the names in the reference's tables by the module that their section is about."""
    sections: dict[str, set[str]] = {}
    for section in re.split(r"^## ", REFERENCE.read_text(), flags=re.MULTILINE)[1:]:
        if module := re.match(r"`(desist[\w.]*)`", section):
            sections[module[1]] = {row[1] for line in section.splitlines() if (row := ROW.match(line))}
    return sections


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_documented(module: str) -> None:
    """The reference lists exactly the public names of a module."""
    listed = reference()[module]
    public = set(importlib.import_module(module).__all__)
    assert not public - listed, f"the reference doesn't list these names of {module}"
    assert not listed - public, f"the reference lists names that {module} doesn't have"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def resolve(dotted: str) -> Any:
    """Return the object with this dotted name; fail if there is none."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            assert hasattr(found, name), f"{dotted}: {found!r} has no {name}"
            found = getattr(found, name)
        return found
    raise AssertionError(f"{dotted} doesn't exist")


def check_parameters(code: str, page: Path) -> None:
    """Assert that the keywords in `Name(key=...)` are parameters of the public callable with this name."""
    call = ast.parse(code.lstrip("@").replace("...", "0"), mode="eval").body
    assert isinstance(call, ast.Call)
    callee = ast.unparse(call.func)
    assert callee in CALLABLES, (
        f"{page.name}: {code}: there is no callable {callee}; correct the page, or add the name to _callables()"
    )
    found = CALLABLES[callee]
    known = {*inspect.signature(found.__init__ if inspect.isclass(found) else found).parameters}
    if callee.split(".")[-1] in ("run", "arun", "continue_run", "acontinue_run"):
        known |= {*WorkflowOptions.__annotations__}
    for keyword in call.keywords:
        assert keyword.arg in known, f"{page.name}: {code}: there is no parameter {keyword.arg}"


def _callables() -> dict[str, Any]:
    found = {
        name: getattr(importlib.import_module(module), name)
        for module in PUBLIC
        for name in importlib.import_module(module).__all__
    }
    for place in (desist.Agent, desist.Workflow):
        short = place.__name__.lower()
        found |= {f"{short}.{name}": getattr(place, name) for name in vars(place) if callable(getattr(place, name))}
        found |= {f"{short}.{name}": getattr(Component, name) for name in vars(Component) if name[0] != "_"}
    cancel = importlib.import_module("desist.run.cancel").cancel
    database = desist.db.SqliteDb
    found |= {f"db.{name}": getattr(database, name) for name in dir(database) if name[0] != "_"}
    return found | {
        "run": desist.Workflow.run,
        "arun": desist.Workflow.arun,
        "cancel": cancel,
        "tool": desist.tools.Function,
    }


CALLABLES = _callables()
