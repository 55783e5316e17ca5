"""Names that the product's source spells out, wherever it does: no move of a module changes them.

A name that one place spells out and nothing else checks (a header, a variable that a child process
reads) is seen here when it changes or goes.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from typing import Final

from testbed.platform import ROOT

# Ours to change: they are not the product.
LEFT_OUT: Final = frozenset({"bench", "examples", "testbed", "tests"})
KINDS: Final = {
    "annotation": re.compile(r"\bcom\.(?:openfaas|sluice)\.[a-z._-]+"),
    "header": re.compile(r"\bx-[a-z0-9]+(?:-[a-z0-9]+)*\b", re.IGNORECASE),
    "variable": re.compile(r"\b(?:KAFKA|OPENFAAS|SLUICE|UV)_[A-Z0-9_]+\b"),
}


def literals() -> Iterator[str]:
    """Kind and text of each such name in a string of the product's source."""
    for text in _strings():
        for kind, names in KINDS.items():
            for found in names.findall(text):
                yield f"{kind} {found.lower() if kind == 'header' else found}"


def _strings() -> Iterator[str]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if "/" in name and name.partition("/")[0] not in LEFT_OUT:
            yield from _constants(ast.parse((ROOT / name).read_text(), name))


def _constants(module: ast.Module) -> Iterator[str]:
    prose = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1")
