"""Build contexts as faas-cli makes them, and functions loaded from them, each apart from the
others.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import yaml

ROOT = Path(__file__).parents[2]


def stack() -> dict[str, dict[str, object]]:
    """The functions of stack.yml."""
    functions: dict[str, dict[str, object]] = yaml.safe_load(
        (ROOT / "stack.yml").read_text(encoding="utf-8")
    )["functions"]
    return functions


def assemble(template: str, handler: Path, into: Path) -> Path:
    """The template's folder copied to `into`, the handler's over its function/."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "template" / template, into, ignore=unwanted)
    shutil.copytree(handler, into / "function", dirs_exist_ok=True, ignore=unwanted)
    return into


def context_of(name: str, into: Path) -> Path:
    """The context of a function of stack.yml."""
    function = stack()[name]
    return assemble(str(function["lang"]), ROOT / str(function["handler"]), into / name)


def load_function(context: Path, environ: Mapping[str, str], name: str) -> ModuleType:
    """The handler module of a context, its package `function` imported under a name of its own.

    Modules read the environment as they are imported, so it is set for that long.
    """
    folder = context / "function"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    with patch.dict(os.environ, environ):
        return importlib.import_module(f"{name}.handler")
