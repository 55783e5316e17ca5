"""Reads a build context as faas-cli packs it, and lays its parts out as they are to run."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from gateway.building.errors import BuildError
from gateway.building.images import canonical_image

FUNCTION: Final = "function"
HANDLER: Final = "handler.py"
REQUIREMENTS: Final = "requirements.txt"
TEMPLATE: Final = ("template.yml", "template.yaml")
TEMPLATE_BYTES: Final = 64 * 1024
# Of the template's own files these are for building an image, not for running.
LEFT_OUT: Final = frozenset({".dockerignore", "Dockerfile", "meta.json", REQUIREMENTS, *TEMPLATE})
# Left by tools on the developer's machine: of no use here, and different at every build.
DEBRIS: Final = frozenset({"__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
# The runtime's package, which is in the same process, and bundle.json, which the embedded target
# writes beside the code: a context must build for every target.
RESERVED: Final = frozenset({"sluice", "bundle"})
SHOWN_FILES: Final = 20


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """What com.openfaas.docker.config asks for. image: as its author wrote it."""

    image: str
    arguments: Mapping[str, str]
    platforms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextParts:
    """Where the parts of a context are.

    function: the folder of the handler. requirements: files by the name their author knows.
    """

    function: Path
    requirements: Mapping[str, Path]


class _Template(yaml.SafeLoader):
    """Reads YAML without aliases: a few nested ones can expand to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        return super().compose_node(parent, index)


def read_config(content: bytes) -> BuildConfig:
    """The build config; keys it does not know are ignored. Raises InvalidRequestError."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BuildError(f"the build config is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise BuildError("the build config: expected a JSON object")
    image = config.get("image")
    if not isinstance(image, str) or not image.strip():
        raise BuildError("the build config: 'image' is required, a text such as NAME:TAG")
    canonical_image(image)
    arguments = config.get("buildArgs") or {}
    if not isinstance(arguments, dict) or not all(isinstance(v, str) for v in arguments.values()):
        raise BuildError("the build config: 'buildArgs' is expected to be a map of texts")
    return BuildConfig(image.strip(), arguments, _texts(config, "platforms"))


def read_context(root: Path) -> ContextParts:
    """Where the parts of an unpacked context are. Raises BuildError when it holds no handler."""
    name = _handler_folder(root)
    function = root / name
    if not (function / HANDLER).is_file():
        found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        shown = ", ".join(found[:SHOWN_FILES]) or "nothing"
        raise BuildError(
            f"no {name}/{HANDLER}: this builder runs Python handlers (a Dockerfile is for "
            f"clusters); the context holds {shown}"
        )
    files = {
        f"the template's {REQUIREMENTS}": root / REQUIREMENTS,
        f"{FUNCTION}/{REQUIREMENTS}": function / REQUIREMENTS,
    }
    return ContextParts(function, files)


def lay_out(root: Path, parts: ContextParts, folder: Path) -> None:
    """Move what runs into `folder`: package `function/` and the template's other files.

    Raises BuildError when a name of the template is one that the runtime needs.
    """
    parts.function.rename(folder / FUNCTION)
    (folder / FUNCTION / "__init__.py").touch()
    for path in sorted(root.iterdir()):
        if path.name in LEFT_OUT:
            continue
        if path.name.partition(".")[0] in RESERVED:
            raise BuildError(f"the template's {path.name!r}: the runtime has that name already")
        if (folder / path.name).exists():
            raise BuildError(f"the template's {path.name!r} is there besides the handler's folder")
        path.rename(folder / path.name)
    _sweep(folder)


def _sweep(folder: Path) -> None:
    for parent, folders, files in os.walk(folder):
        for name in DEBRIS & set(folders):
            shutil.rmtree(Path(parent) / name)
        folders[:] = [name for name in folders if name not in DEBRIS]
        for name in files:
            if name.endswith(".pyc"):
                (Path(parent) / name).unlink()


def _handler_folder(root: Path) -> str:
    name = _template(root).get("handler_folder") or FUNCTION
    if not isinstance(name, str):
        raise BuildError(f"template.yml: handler_folder {name!r}: expected a text")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise BuildError(f"template.yml: handler_folder {name!r}: expected a folder inside it")
    return path.as_posix()


def _template(root: Path) -> dict[str, Any]:
    path = next((root / name for name in TEMPLATE if (root / name).is_file()), None)
    if path is None:
        return {}
    if path.stat().st_size > TEMPLATE_BYTES:
        raise BuildError(f"{path.name}: expected at most {TEMPLATE_BYTES} bytes")
    try:
        template = yaml.load(path.read_bytes(), _Template)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BuildError(f"{path.name}: not readable as YAML: {error}") from error
    return template if isinstance(template, dict) else {}


def _texts(config: dict[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BuildError(f"the build config: {key!r} is expected to be a list of texts")
    return tuple(value)
