"""No module of ours imports itself by way of others, for types only or for values."""

import ast
from collections.abc import Iterator
from pathlib import Path

from testbed.platform import ROOT
from tests.structure.test_words import product_files


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports_of(path: Path, modules: frozenset[str]) -> Iterator[str]:
    """The modules of ours that a file imports anywhere: for types and within functions too."""
    package = module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                source = f"{package}.{source}".rstrip(".")
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                if whole in modules:
                    yield whole
                elif source in modules:
                    yield source


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach one another: Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], index[other])
        if lowest[name] == index[name]:
            at = stack.index(name)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1 or name in graph[name]:
                found.append(sorted(component))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = [path for path in product_files() if not path.is_relative_to(ROOT / "functions")]
    modules = frozenset(map(module_of, paths))
    graph = {module_of(path): set(imports_of(path, modules)) for path in paths}
    assert circles(graph) == []


def test_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
