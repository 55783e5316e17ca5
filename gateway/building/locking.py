"""Resolves what an environment must hold to a lock of exact versions, and keeps resolutions."""

import asyncio
import hashlib
import json
import platform
import re
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

from packaging.utils import canonicalize_name

from gateway.building.child import Report
from gateway.building.errors import RequirementError
from gateway.building.requirements import Wanted
from gateway.building.uv import Uv

HASH: Final = re.compile(r"--hash=(\S+)")


@dataclass(frozen=True, slots=True)
class Demand:
    """What an environment must hold. sdists: whether building from source is allowed.

    refresh: resolve anew even if the same requirements were resolved before.
    """

    wanted: tuple[Wanted, ...]
    sdists: bool = False
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """The exact versions that a demand resolves to. text: requirements with hashes, one a line."""

    text: str
    demand: Demand

    @property
    def key(self) -> str:
        """Names the environment that the lock makes on this interpreter."""
        return lock_key(self.text)


class Resolutions(Protocol):
    """Earlier resolutions by their key. Methods block and may be called from any thread."""

    def resolution(self, key: str) -> str | None:
        """The lock's text; None when these requirements were not resolved yet."""

    def keep_resolution(self, key: str, lock_key: str, lock: str) -> None:
        """Remember a lock's text; durable on return."""


class Resolver:
    """Resolves demands by uv, each once: the same demand again needs no network."""

    def __init__(self, uv: Uv, resolutions: Resolutions) -> None:
        self._uv, self._resolutions = uv, resolutions
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def resolve(self, demand: Demand, work: Path, report: Report) -> Lock:
        """The lock of a demand. work: a folder for temporary files.

        Builds with the same demand wait for each other. Raises BuildError, RequirementError.
        """
        key = resolution_key(demand, self._uv.indexes)
        async with self._busy.setdefault(key, asyncio.Lock()):
            known = None if demand.refresh else self._resolutions.resolution(key)
            if known is not None:
                await report("Requirements were resolved by an earlier build")
                return Lock(known, demand)
            files = await asyncio.to_thread(_write_requirements, demand, work)
            text = await self._uv.resolve(files, demand.wanted, demand.sdists, report)
            lock = Lock(keep_accepted_hashes(text, demand.wanted), demand)
            await asyncio.to_thread(self._resolutions.keep_resolution, key, lock.key, lock.text)
        await report(f"Resolved {lock.text.count('==')} packages")
        return lock


def _write_requirements(demand: Demand, work: Path) -> list[Path]:
    path = work / "requirements.in"
    path.write_text("".join(f"{wanted.text}\n" for wanted in demand.wanted))
    return [path]


def resolution_key(demand: Demand, indexes: str) -> str:
    """A key that is equal for equal requirements, interpreter and indexes."""
    texts = sorted({(wanted.text, *sorted(wanted.hashes)) for wanted in demand.wanted})
    return _digest(texts, demand.sdists, indexes, interpreter_identity())


def lock_key(lock: str) -> str:
    """Names the environment that a lock makes on this interpreter."""
    return _digest(lock, interpreter_identity())


def interpreter_identity() -> list[str]:
    """What an environment depends on besides its lock: version, platform and path of Python."""
    # A virtual environment links to the interpreter that the one given was made with.
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return [
        platform.python_implementation(),
        platform.python_version(),
        sysconfig.get_platform(),
        str(base),
    ]


def keep_accepted_hashes(lock: str, wanted: Sequence[Wanted]) -> str:
    """The lock with the hashes that the requirements' authors accept, where they named some.

    uv drops the hashes of its input and writes all that the index has. Raises RequirementError
    when the index has none of those accepted.
    """
    accepted = {each.name: each for each in wanted if each.hashes}
    return "".join(_narrowed(entry, accepted) for entry in _entries(lock))


def _narrowed(entry: str, accepted: dict[str, Wanted]) -> str:
    name = canonicalize_name(re.split(r"[\s=<>@;\[]", entry, maxsplit=1)[0])
    if name not in accepted:
        return entry
    lines = entry.splitlines()
    kept = [line.rstrip(" \\") for line in lines if _is_accepted(line, accepted[name])]
    if len(kept) < 2:
        raise RequirementError(f"{accepted[name]}: none of its hashes is that of {lines[0][:200]}")
    return " \\\n".join(kept) + "\n"


def _is_accepted(line: str, wanted: Wanted) -> bool:
    found = HASH.search(line)
    return found is None or found[1] in wanted.hashes


def _entries(lock: str) -> list[str]:
    """The lock split into one text per distribution: its line and the indented ones after it."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", lock, flags=re.MULTILINE)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
