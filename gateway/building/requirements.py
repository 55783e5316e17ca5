"""Requirement files: what a template and a function may require, and which file requires what."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gateway.building.errors import RequirementError

# What a replica's own process imports (runtime, http1): the versions that the gateway runs.
RUNTIME: Final = ("httptools", "prometheus-client", "uvloop")
RUNTIME_SOURCE: Final = "the runtime"
FILE_BYTES: Final = 256 * 1024
LINES: Final = 2000
COMMENT: Final = re.compile(r"(?:^|\s)#.*$")
HASH: Final = re.compile(r"\s--hash[=\s]([a-z0-9]+):([0-9a-f]+)(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One requirement. source: the file as its author knows it; line: from 1, 0 for none.

    text: PEP 508, without comment; name: normalised; hashes: `ALGORITHM:HEX` its author accepts.
    """

    source: str
    line: int
    text: str
    name: str
    hashes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        where = f"{self.source} line {self.line}" if self.line else self.source
        return f"{self.text} ({where})"


def runtime_requirements() -> list[Wanted]:
    """The runtime's own few, each at the version installed beside the gateway."""
    return [Wanted(RUNTIME_SOURCE, 0, f"{name}=={version(name)}", name) for name in RUNTIME]


def read_requirements(path: Path, source: str, allow_urls: bool) -> list[Wanted]:
    """The lines of a requirements file, none if there is no such file.

    Allowed: PEP 508 names with extras, versions and markers, `--hash`, comments; with
    `allow_urls` also `NAME @ https://...`. Raises RequirementError for all else: options, paths
    and other files could reach what the builder may read and the function may not.
    """
    if not path.is_file():
        return []
    if path.stat().st_size > FILE_BYTES:
        raise RequirementError(f"{source}: expected at most {FILE_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequirementError(f"{source}: the file is not UTF-8") from error
    return [
        _wanted(source, number, line, allow_urls) for number, line in _logical_lines(text, source)
    ]


def blamed(wanted: Iterable[Wanted], message: str) -> list[Wanted]:
    """The requirements whose package `message` names: the sides of a conflict."""
    words = {canonicalize_name(word) for word in re.findall(r"[A-Za-z0-9][\w.-]*", message)}
    words |= {canonicalize_name(word.rstrip(".")) for word in words}
    return [requirement for requirement in wanted if requirement.name in words]


def _logical_lines(text: str, source: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    begun, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if begun else number
        begun += raw
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        if line := COMMENT.sub("", begun).strip():
            lines.append((start, line))
        begun = ""
    if line := COMMENT.sub("", begun).strip():
        lines.append((start, line))
    if len(lines) > LINES:
        raise RequirementError(f"{source}: expected at most {LINES} requirements")
    return lines


def _wanted(source: str, number: int, line: str, allow_urls: bool) -> Wanted:
    where = f"{source} line {number}"
    if line.startswith("-"):
        raise RequirementError(
            f"{where}: option {re.split(r'[ =]', line, maxsplit=1)[0]!r} is refused: indexes and "
            "options are the builder's; list requirements one by one"
        )
    plain, hashes = HASH.sub("", line).strip(), _hashes(line, where)
    if "$" in plain or re.match(r"[./~]|[A-Za-z]:\\|\w+:", plain):
        raise RequirementError(f"{where}: {_short(plain)}: paths and URLs are refused")
    try:
        requirement = Requirement(plain)
    except InvalidRequirement as error:
        reason = str(error).split("\n")[0]
        raise RequirementError(f"{where}: {_short(plain)}: {reason}") from error
    if requirement.url is not None:
        _check_url(requirement.url, where, allow_urls)
    return Wanted(source, number, str(requirement), canonicalize_name(requirement.name), hashes)


def _hashes(line: str, where: str) -> frozenset[str]:
    pairs = HASH.findall(line)
    for algorithm, _ in pairs:
        if algorithm != "sha256":
            raise RequirementError(f"{where}: hash {algorithm!r}: expected sha256")
    return frozenset(f"{algorithm}:{digest}" for algorithm, digest in pairs)


def _check_url(url: str, where: str, allow_urls: bool) -> None:
    if not allow_urls:
        raise RequirementError(
            f"{where}: direct URLs are refused, unless the gateway's SLUICE_BUILD_URLS is true"
        )
    if not re.match(r"https://[^/@\s]+/", url):
        raise RequirementError(f"{where}: expected an https:// URL without a password")


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")
