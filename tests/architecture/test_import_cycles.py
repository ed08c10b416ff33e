"""No module of desist imports itself through others, imports for annotations and inside functions included."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import desist

ROOT = Path(desist.__file__).parent


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, modules: set[str]) -> set[str]:
    """Return the modules that a source text imports anywhere, under `TYPE_CHECKING` and in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "desist has absolute imports only"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & modules or {node.module}
    return found & modules


def import_graph() -> dict[str, set[str]]:
    """Return the imports of each module of desist."""
    files = {module_name(path): path for path in ROOT.rglob("*.py")}
    return {name: imports_of(path.read_text(), set(files)) - {name} for name, path in files.items()}


def cycle_of(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one cycle, or []."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # each imports the next
    return []


def test_no_module_imports_itself_through_others() -> None:
    """The import graph has no cycle."""
    assert cycle_of(import_graph()) == []


def test_imports_for_annotations_and_in_functions_count() -> None:
    """A cycle through an import under `TYPE_CHECKING` or inside a function is found."""
    modules = {"a", "b", "p", "p.c"}
    annotation = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import c, name\n"
    graph = {
        "a": imports_of(annotation, modules),
        "p.c": imports_of("def f():\n    import b\n", modules),
        "b": {"a"},
    }
    assert graph["a"] == {"p.c"}
    assert sorted(set(cycle_of(graph))) == ["a", "b", "p.c"]


def test_no_lazy_name_of_a_package_is_a_module_beside_it() -> None:
    """A name that a package loads late is never shadowed by a module of the same name that was imported before."""
    clashes = []
    for init in ROOT.rglob("__init__.py"):
        source = init.read_text()
        if "lazy_names(" not in source:
            continue
        beside = {path.stem if path.is_file() else path.name for path in init.parent.iterdir()}
        clashes += [f"{module_name(init)}.{name}" for name in late_names(source) if name in beside]
    assert clashes == []


def late_names(source: str) -> set[str]:
    """Return the names in `__all__` of a package."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return {item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)}
    return set()
