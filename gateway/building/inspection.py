"""Finds how a function is called without running it: `inspection.py BUNDLE-FOLDER`.

A script of its own on the standard library: parsing source that a stranger wrote can use much
memory and can end the interpreter, and neither may happen to the gateway. It writes one JSON
object, {"form": ..., "error": ...}.
"""

import ast
import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

EVENT: Final = "handle(event, context)"
REQUEST: Final = "handle(req)"
ASGI: Final = "app"
# `handle` exists; its parameters are known only once the module runs.
UNKNOWN: Final = "handle"
FORMS: Final = (EVENT, REQUEST, ASGI, UNKNOWN)
LOOKED_FOR: Final = f"{EVENT}, {REQUEST} or {ASGI} (an ASGI application)"
SOURCE_BYTES: Final = 4 * 1024 * 1024
MEMORY_BYTES: Final = 2 * 1024**3
IMPORT_DEPTH: Final = 5
SHOWN_NAMES: Final = 20

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class InspectionError(Exception):
    """The function cannot be served; the message names file and line."""


@dataclass(slots=True)
class Names:
    """What a module binds at its top level: by name the node that binds it last."""

    bound: dict[str, ast.AST] = field(default_factory=dict)
    stars: list[ast.ImportFrom] = field(default_factory=list)


def inspect(folder: Path) -> str:
    """The form of `function/handler.py` in a bundle's folder, one of FORMS.

    Raises InspectionError: a syntax error in any module of the bundle, or no handler.
    """
    for path in _sources(folder):
        _parse(path, folder)
    handler = folder / "function" / "handler.py"
    form = _form(handler, folder, "handle", IMPORT_DEPTH)
    if form is None and _binds(handler, folder, "app"):
        form = ASGI
    if form is None:
        raise InspectionError(
            f"{_shown(handler, folder)}: looked for {LOOKED_FOR}; found {_found(handler, folder)}"
        )
    return form


def _form(path: Path, folder: Path, name: str, depth: int) -> str | None:
    """The form of the handler called `name` in a module, None if the module binds no such name."""
    names = _names(path, folder)
    node = names.bound.get(name)
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda):
        node = node.value
    if isinstance(node, Function):
        return _form_of_parameters(node, _shown(path, folder), name)
    if isinstance(node, ast.ImportFrom):
        original = next(a.name for a in node.names if (a.asname or a.name) == name)
        source = _sibling(path, folder, node)
        known = _form(source, folder, original, depth - 1) if source and depth else None
        return known or UNKNOWN
    if node is not None:
        return UNKNOWN
    for star in names.stars:
        source = _sibling(path, folder, star)
        if source is None or not depth:
            continue
        if form := _form(source, folder, name, depth - 1):
            return form
    return None


def _form_of_parameters(node: Function, shown: str, name: str) -> str:
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    demanded = [
        a.arg
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    where = f"{shown} line {node.lineno}"
    if demanded:
        raise InspectionError(
            f"{where}: {name} demands keyword {demanded[0]!r}: expected {EVENT} or {REQUEST}"
        )
    if required <= 2 and (positional >= 2 or arguments.vararg):
        return EVENT
    if required <= 1 and positional == 1:
        return REQUEST
    raise InspectionError(
        f"{where}: {name} takes {positional} parameters: expected {EVENT} or {REQUEST}"
    )


def _binds(path: Path, folder: Path, name: str) -> bool:
    names = _names(path, folder)
    if name in names.bound:
        return True
    sources = [_sibling(path, folder, star) for star in names.stars]
    return any(name in _names(source, folder).bound for source in sources if source)


def _names(path: Path, folder: Path) -> Names:
    names = Names()
    for node in _statements(_parse(path, folder).body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.bound[node.name] = node
        elif isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                if alias.name == "*" and isinstance(node, ast.ImportFrom):
                    names.stars.append(node)
                names.bound[alias.asname or alias.name.split(".")[0]] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        names.bound[part.id] = node
    return names


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import, those in if, try, with and loops among them."""
    for node in body:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for attribute in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, attribute, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


def _sibling(path: Path, folder: Path, node: ast.ImportFrom) -> Path | None:
    """The bundle's file that `from X import ...` in `path` reads, None if it is a library's."""
    start = folder if node.level == 0 else path.parents[node.level - 1]
    parts = (node.module or "").split(".") if node.module else []
    target = start.joinpath(*parts)
    if not target.is_relative_to(folder):
        return None
    for candidate in (target.with_name(target.name + ".py"), target / "__init__.py"):
        if candidate.is_file() and candidate != path:
            return candidate
    return None


def _parse(path: Path, folder: Path) -> ast.Module:
    shown = _shown(path, folder)
    if path.stat().st_size > SOURCE_BYTES:
        raise InspectionError(f"{shown}: expected at most {SOURCE_BYTES} bytes of source")
    try:
        return ast.parse(path.read_bytes(), filename=shown)
    except SyntaxError as error:
        text = (error.text or "").strip()
        line = f"{shown} line {error.lineno}: " if error.lineno else f"{shown}: "
        raise InspectionError(f"{line}{error.msg}" + (f": {text[:200]}" if text else "")) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InspectionError(f"{shown}: cannot be parsed: {error}") from error


def _sources(folder: Path) -> Iterator[Path]:
    for parent, names, files in os.walk(folder):
        names.sort()
        yield from (Path(parent) / name for name in sorted(files) if name.endswith(".py"))


def _found(path: Path, folder: Path) -> str:
    nodes = _names(path, folder).bound
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = [name for name, node in nodes.items() if isinstance(node, kinds)]
    others = [name for name, node in nodes.items() if not isinstance(node, kinds) and name != "*"]
    shown = ", ".join((defined + others)[:SHOWN_NAMES])
    return shown or "nothing defined"


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def main(folder: Path) -> None:
    """Write the outcome to stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    outcome = {"form": "", "error": ""}
    try:
        outcome["form"] = inspect(folder)
    except InspectionError as error:
        outcome["error"] = str(error)
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
