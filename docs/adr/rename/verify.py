"""Shows that a rename changed no test: `verify.py BEFORE AFTER MAP...`.

Every test file of commit BEFORE is renamed by the maps in memory and compared with commit AFTER:
the functions that are tests, their parameters and their assertions must be the same syntax trees.
What differs is printed; the exit code is 1 then.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rename import Map, Source, module_of, new_path


def files_of(commit: str) -> list[str]:
    """Paths of a commit's Python files."""
    command = ["git", "ls-tree", "-r", "--full-tree", "--name-only", commit]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if path.endswith(".py")]


def text_of(commit: str, path: str) -> str:
    """A file of a commit; empty when it is not there."""
    shown = subprocess.run(
        ["git", "show", f"{commit}:{path}"], capture_output=True, text=True, check=False
    )
    return shown.stdout if shown.returncode == 0 else ""


def renamed(path: str, text: str, maps: list[Map], modules: frozenset[str]) -> tuple[str, str]:
    """Path and text after all maps."""
    for names in maps:
        source = Source(path, text, names, modules)
        text = source.rewritten()
        path = new_path(path, names)
        modules = frozenset(names.module(name) for name in modules)
    return path, text


def claims(text: str) -> Iterator[str]:
    """What the tests of a file claim: their names, parameters and assertions, in order."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            yield f"{node.name} {[ast.dump(one) for one in node.decorator_list]}"
            for inner in ast.walk(node):
                if isinstance(inner, ast.Assert):
                    yield ast.dump(inner.test)
                elif isinstance(inner, ast.withitem) and "raises" in ast.dump(inner):
                    yield ast.dump(inner)


def main(before: str, after: str, maps: list[Map]) -> int:
    """Compare every test file; 1 when one differs."""
    python = files_of(before)
    modules = frozenset(module_of(path) for path in python) | frozenset(
        path.rpartition("/")[0].replace("/", ".") for path in python if "/" in path
    )
    differing = 0
    for path in python:
        if not path.startswith("tests/"):
            continue
        target, text = renamed(path, text_of(before, path), maps, modules)
        now = text_of(after, target)
        if list(claims(text)) != list(claims(now)):
            differing += 1
            old, new = set(claims(text)), set(claims(now))
            print(f"{path} -> {target}: gone {sorted(old - new)}, new {sorted(new - old)}")
    print(f"{differing} test files differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], [Map.read(Path(name)) for name in sys.argv[3:]]))
