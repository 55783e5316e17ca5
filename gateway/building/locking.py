"""What an environment is asked to hold, the lock it resolves to, and the names of both."""

import hashlib
import json
import platform
import re
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from gateway.building.requirements import RequirementError, Wanted

HASH: Final = re.compile(r"--hash=(\S+)")


@dataclass(frozen=True, slots=True)
class Demand:
    """What an environment must hold. sdists: whether building from source is allowed.

    refresh: resolve anew even if the same requirements were resolved before.
    """

    wanted: tuple[Wanted, ...]
    sdists: bool = False
    refresh: bool = False


def resolution_key(demand: Demand, indexes: str) -> str:
    """Names what the requirements resolve to: equal texts, interpreter and indexes, equal key."""
    texts = sorted({(wanted.text, *sorted(wanted.hashes)) for wanted in demand.wanted})
    return _digest(texts, demand.sdists, indexes, interpreter_identity())


def lock_key(lock: str) -> str:
    """Names the environment that a lock makes on this interpreter."""
    return _digest(lock, interpreter_identity())


def interpreter_identity() -> list[str]:
    """What an environment depends on besides its lock: version, platform, place of Python."""
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
    """The lock cut into one text a distribution: its line and the indented ones after it."""
    return re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", lock, flags=re.MULTILINE)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
