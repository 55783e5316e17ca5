"""Control groups as files: version 2 as one tree, version 1 as a tree for each controller."""

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

LOG: Final = logging.getLogger(__name__)
CPU_PERIOD_US: Final = 100_000
LEAST_CPU_QUOTA_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one replica may use: bytes and cores; None where unlimited."""

    memory: int | None = None
    cpu: float | None = None

    def __bool__(self) -> bool:
        return self.memory is not None or self.cpu is not None


class Group(Protocol):
    """The control group of one replica. Amounts are None where memory is not limited by it.

    Joining takes up to 10 ms, because the kernel waits for every CPU: a replica without a limit
    gets no group, and one with a limit joins only the kinds that it needs (ADR 0005).
    """

    def join_files(self) -> Sequence[Path]:
        """Files into which a process writes `0` to join."""

    def limit(self, limits: "Limits") -> None:
        """Change limits of the kinds that it was made with. Raises OSError."""

    def memory_bytes(self) -> int | None:
        """Memory charged now."""

    def peak_bytes(self) -> int | None:
        """The most memory that was ever charged."""

    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory."""

    def remove(self) -> None:
        """Remove the group; processes still in it are killed."""


class Groups(Protocol):
    """Makes groups. limits_cpu: whether a CPU limit is enforced by them."""

    limits_cpu: bool

    def create(self, name: str, limits: Limits) -> Group:
        """A new group with these limits. Raises OSError."""

    def close(self) -> None:
        """Remove the folder of all groups, whose processes have ended."""


class Unified:
    """Version 2: one tree, delegated to this user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.limits_cpu = "+cpu" in wanted(folder).split()

    def create(self, name: str, limits: Limits) -> "Group":
        group = _UnifiedGroup(self._folder / name, self.limits_cpu)
        group.folder.mkdir()
        group.limit(limits)
        return group

    def close(self) -> None:
        _remove(self._folder)


@dataclass(frozen=True, slots=True)
class _UnifiedGroup:
    folder: Path
    limits_cpu: bool

    def join_files(self) -> Sequence[Path]:
        return [self.folder / "cgroup.procs"]

    def limit(self, limits: Limits) -> None:
        if limits.memory is not None:
            put(self.folder / "memory.max", limits.memory)
            put(self.folder / "memory.oom.group", 1)
            with suppress(OSError):  # absent without swap
                put(self.folder / "memory.swap.max", 0)
        if limits.cpu is not None and self.limits_cpu:
            put(self.folder / "cpu.max", f"{_quota(limits.cpu)} {CPU_PERIOD_US}")

    def memory_bytes(self) -> int | None:
        return _number(self.folder / "memory.current")

    def peak_bytes(self) -> int | None:
        return _number(self.folder / "memory.peak")

    def out_of_memory(self) -> bool:
        return _fields(self.folder / "memory.events").get("oom_kill", 0) > 0

    def remove(self) -> None:
        _remove(self.folder)


class Legacy:
    """Version 1: a tree for each controller, writable by root."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders
        self.limits_cpu = "cpu" in folders

    def create(self, name: str, limits: Limits) -> "Group":
        asked = {"memory": limits.memory, "cpu": limits.cpu}
        group = _LegacyGroup(
            {
                kind: parent / name
                for kind, parent in self._folders.items()
                if asked[kind] is not None
            }
        )
        for folder in group.folders.values():
            folder.mkdir(parents=True)
        group.limit(limits)
        return group

    def close(self) -> None:
        for folder in self._folders.values():
            _remove(folder)


@dataclass(frozen=True, slots=True)
class _LegacyGroup:
    folders: dict[str, Path]

    @property
    def _memory(self) -> Path:
        return self.folders.get("memory", Path(os.devnull))

    def join_files(self) -> Sequence[Path]:
        return [folder / "cgroup.procs" for folder in self.folders.values()]

    def limit(self, limits: Limits) -> None:
        if limits.memory is not None:
            self._set_memory(limits.memory)
        if limits.cpu is not None and "cpu" in self.folders:
            put(self.folders["cpu"] / "cpu.cfs_period_us", CPU_PERIOD_US)
            put(self.folders["cpu"] / "cpu.cfs_quota_us", _quota(limits.cpu))

    def _set_memory(self, most: int) -> None:
        """Set both limits: that of memory and swap together may never be the lower one."""
        file = self.folders["memory"] / "memory.limit_in_bytes"
        raised = most > (_number(file) or 0)
        if raised:
            self._set_swap(most)
        put(file, most)
        if not raised:
            self._set_swap(most)

    def _set_swap(self, most: int) -> None:
        with suppress(OSError):  # absent without accounting of swap
            put(self.folders["memory"] / "memory.memsw.limit_in_bytes", most)

    def memory_bytes(self) -> int | None:
        return _number(self._memory / "memory.usage_in_bytes")

    def peak_bytes(self) -> int | None:
        return _number(self._memory / "memory.max_usage_in_bytes")

    def out_of_memory(self) -> bool:
        return _fields(self._memory / "memory.oom_control").get("oom_kill", 0) > 0

    def remove(self) -> None:
        for folder in self.folders.values():
            _remove(folder)


def empty(folder: Path) -> None:
    """Remove a killed gateway's folder with its groups."""
    if folder.is_dir():
        for group in folder.iterdir():
            if group.is_dir():
                _remove(group)
        _remove(folder)


def _remove(folder: Path) -> None:
    for process in text(folder / "cgroup.procs").split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        # A killed process has not ended yet; the next start of the gateway removes the folder.
        LOG.warning("control group left: folder=%s error=%s", folder.name, error.strerror)


def _quota(cores: float) -> int:
    return max(round(cores * CPU_PERIOD_US), LEAST_CPU_QUOTA_US)


def put(path: Path, value: object) -> None:
    """Write a value into a file of the kernel."""
    with path.open("w") as file:
        file.write(str(value))


def text(path: Path) -> str:
    """The content of a file, empty when there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    content = text(path).strip()
    return int(content) if content.isdecimal() else None


def _fields(path: Path) -> dict[str, int]:
    pairs = [line.split() for line in text(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def wanted(folder: Path) -> str:
    """What to write into cgroup.subtree_control to pass on memory and cpu, if offered."""
    offered = text(folder / "cgroup.controllers").split()
    return " ".join(f"+{kind}" for kind in ("memory", "cpu") if kind in offered)
