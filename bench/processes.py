"""What the kernel knows of a process: time on processors, memory, descent."""

import os
import re
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
MIB: Final = 1024 * 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    return _kib(Path(f"/proc/{pid}/status").read_text(), "VmRSS") / 1024


def private_mib(pid: int) -> float:
    """Memory that would be free again if the process ended: what it shares with nobody."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return (_kib(text, "Private_Dirty") + _kib(text, "Private_Clean")) / 1024


def command(pid: int) -> list[str]:
    """The command line of a process, empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def environment(pid: int) -> dict[str, str]:
    """The variables a process was started with."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)


def children(pid: int) -> list[int]:
    """Processes that a process started, whichever of its threads did."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        listed = [(thread / "children").read_text().split() for thread in threads]
    except OSError:
        return []
    return [int(child) for found in listed for child in found]


def descendants(pid: int) -> set[int]:
    """Processes below a process, at any depth."""
    found: set[int] = set()
    for child in children(pid):
        found |= {child} | descendants(child)
    return found


def _kib(text: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {field}")
    return int(found[1])
