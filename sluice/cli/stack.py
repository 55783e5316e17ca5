"""stack.yml: which functions to build and deploy, by the rules of OpenFaaS's stack files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from sluice.cli.errors import CommandError
from sluice.cli.substitution import substitute

STACK_FILES: Final = ("stack.yaml", "stack.yml")


@dataclass(frozen=True, slots=True)
class Function:
    """One entry under `functions`."""

    name: str
    image: str
    lang: str = ""
    handler: str = ""
    fprocess: str = ""
    namespace: str = ""
    skip_build: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    read_only_root_filesystem: bool = False

    @property
    def is_built(self) -> bool:
        """Whether there is code of ours to build."""
        return bool(self.lang) and not self.skip_build

    def deployment(self) -> dict[str, Any]:
        """The body of PUT and POST /system/functions."""
        body: dict[str, Any] = {
            "service": self.name,
            "image": self.image,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "envVars": dict(self.environment),
            "secrets": list(self.secrets),
            "constraints": list(self.constraints),
            "envProcess": self.fprocess,
            "readOnlyRootFilesystem": self.read_only_root_filesystem,
        }
        if self.namespace:
            body["namespace"] = self.namespace
        for key, resources in (("limits", self.limits), ("requests", self.requests)):
            if resources:
                body[key] = dict(resources)
        return body


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack file. folder: where it lies; handlers and templates are found from there."""

    path: Path
    gateway: str
    functions: tuple[Function, ...]
    copied: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.path.parent

    def select(self, names: list[str]) -> tuple[Function, ...]:
        """The functions of `names`, all when there are none. Raises CommandError."""
        known = {function.name for function in self.functions}
        for name in names:
            if name not in known:
                found = ", ".join(sorted(known))
                raise CommandError(f"{self.path.name}: no function {name!r}; there are: {found}")
        return tuple(f for f in self.functions if not names or f.name in names)


def find_stack(path: Path | None) -> Path:
    """`path`, or the stack file of this folder. Raises CommandError."""
    candidates = [path] if path else [Path(name) for name in STACK_FILES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.absolute()
    raise CommandError(f"no stack file: looked for {', '.join(map(str, candidates))}", 2)


def load_stack(path: Path, environ: Mapping[str, str]) -> Stack:
    """The stack file at `path`. Raises CommandError naming function and key."""
    try:
        document = yaml.safe_load(substitute(path.read_text(), environ))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{path.name}: {error}", 2) from error
    root = _mapping(document, f"{path.name}")
    provider = _mapping(root.get("provider"), f"{path.name}: provider")
    if provider.get("name") != "openfaas":
        raise CommandError(
            f"{path.name}: provider.name: expected openfaas, got {provider.get('name')!r}", 2
        )
    configuration = _mapping(root.get("configuration"), f"{path.name}: configuration")
    functions = _mapping(root.get("functions"), f"{path.name}: functions")
    return Stack(
        path=path,
        gateway=str(provider.get("gateway") or ""),
        functions=tuple(
            _function(path, str(name), _mapping(entry, f"{path.name}: functions.{name}"), environ)
            for name, entry in functions.items()
        ),
        copied=_texts(configuration.get("copy"), f"{path.name}: configuration.copy"),
    )


def _function(
    path: Path, name: str, entry: Mapping[str, Any], environ: Mapping[str, str]
) -> Function:
    where = f"{path.name}: functions.{name}"
    image = str(entry.get("image") or "")
    if not image:
        raise CommandError(f"{where}.image: missing", 2)
    environment = _pairs(entry.get("environment"), f"{where}.environment")
    for file in _texts(entry.get("environment_file"), f"{where}.environment_file"):
        environment |= _environment_file(path.parent / file, environ)
    return Function(
        name=name,
        image=image if ":" in image.rpartition("/")[2] else f"{image}:latest",
        lang=str(entry.get("lang") or ""),
        handler=str(entry.get("handler") or ""),
        fprocess=str(entry.get("fprocess") or ""),
        namespace=str(entry.get("namespace") or ""),
        skip_build=bool(entry.get("skip_build")),
        environment=environment,
        secrets=_texts(entry.get("secrets"), f"{where}.secrets"),
        constraints=_texts(entry.get("constraints"), f"{where}.constraints"),
        labels=_pairs(entry.get("labels"), f"{where}.labels"),
        annotations=_pairs(entry.get("annotations"), f"{where}.annotations"),
        limits=_pairs(entry.get("limits"), f"{where}.limits"),
        requests=_pairs(entry.get("requests"), f"{where}.requests"),
        build_args=_pairs(entry.get("build_args"), f"{where}.build_args"),
        read_only_root_filesystem=bool(entry.get("readonly_root_filesystem")),
    )


def _environment_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    try:
        document = yaml.safe_load(substitute(path.read_text(), environ))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{path}: {error}", 2) from error
    content = _mapping(document, path.name)
    return _pairs(content.get("environment"), f"{path.name}: environment")


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CommandError(f"{where}: expected a map, got {type(value).__name__}", 2)
    return value


def _pairs(value: object, where: str) -> dict[str, str]:
    return {str(key): _text(item) for key, item in _mapping(value, where).items()}


def _texts(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise CommandError(f"{where}: expected a list, got {type(value).__name__}", 2)
    return tuple(_text(item) for item in value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
