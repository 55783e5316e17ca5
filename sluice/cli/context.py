"""Build contexts: what faas-cli sends to a remote builder, made from a template and a handler."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import yaml

from sluice.cli.errors import CommandError
from sluice.cli.stack import Function, Stack

CONFIG_MEMBER: Final = "com.openfaas.docker.config"
LEFT_OUT: Final = frozenset({"build", "template"})  # as faas-cli, at the top of a handler folder
IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc", ".git")


def make_context(stack: Stack, function: Function, folder: Path) -> None:
    """Fill `folder` with the template, then the handler over it. Raises CommandError."""
    handler = stack.folder / function.handler
    if not function.handler or not handler.is_dir():
        raise CommandError(f"{function.name}: handler folder {function.handler!r} does not exist")
    template = stack.folder / "template" / function.lang.partition("@")[0]
    target = folder
    if function.lang != "dockerfile":
        shutil.copytree(template_folder(template, function), folder, ignore=IGNORED)
        target = folder / handler_folder(template)
    target.mkdir(parents=True, exist_ok=True)
    try:
        for entry in sorted(handler.iterdir()):
            if entry.name not in LEFT_OUT:
                _copy(entry, target / entry.name)
    except OSError as error:
        raise CommandError(f"{function.name}: {_reason(error)}") from error
    for path in stack.copied:
        _copy_extra(stack.folder, path, target)


def template_folder(template: Path, function: Function) -> Path:
    """`template` when it is one. Raises CommandError naming where it was looked for."""
    if not (template / "template.yml").is_file():
        raise CommandError(f"{function.name}: no template {function.lang!r} in template/")
    return template


def handler_folder(template: Path) -> str:
    """The template's folder for the handler: `function` unless template.yml names another."""
    document = yaml.safe_load((template / "template.yml").read_text())
    return str((document or {}).get("handler_folder") or "function")


def write_tar(folder: Path, function: Function, output: IO[bytes]) -> None:
    """Write `folder` as the uncompressed tar that POST /build takes."""
    with tarfile.open(fileobj=output, mode="w") as archive:
        archive.add(folder, arcname="context", filter=_anonymous)
        config = json.dumps(build_config(function)).encode()
        member = tarfile.TarInfo(CONFIG_MEMBER)
        member.size, member.mode = len(config), 0o644
        archive.addfile(member, io.BytesIO(config))


def build_config(function: Function) -> Mapping[str, Any]:
    """The builder's own member of the tar."""
    return {"image": function.image, "buildArgs": dict(function.build_args), "skipPush": True}


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def _reason(error: OSError) -> str:
    """Words for a file that cannot be copied, of a folder's the first one."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        source, _, _ = error.args[0][0]
        return f"cannot be read: {source} ({len(error.args[0])} in all)"
    return str(error)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=IGNORED, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _copy_extra(root: Path, path: str, target: Path) -> None:
    source = (root / path).resolve()
    if not source.is_relative_to(root.resolve()) or not source.exists():
        raise CommandError(f"configuration.copy: {path!r} does not lie under {root.name}/")
    relative = source.relative_to(root.resolve())
    (target / relative).parent.mkdir(parents=True, exist_ok=True)
    _copy(source, target / relative)
