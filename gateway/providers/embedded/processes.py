"""What /proc tells of a replica, where control groups do not: memory, CPU time, descendants."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
PRIVATE: Final = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")


def private_bytes(process: int) -> int:
    """Memory that `process` and its descendants share with nobody; 0 once they have ended.

    Pages that a fork shares with its zygote are not in it.
    """
    return sum(_private(each) for each in family(process))


def private_above(process: int, limit: int) -> int | None:
    """Private memory of `process` and its descendants where it is over `limit`, else None."""
    # All of it is resident, and that sum is read in microseconds: smaps_rollup walks every page,
    # 3 ms for a process with scikit-learn.
    if sum(_resident(each) for each in family(process)) <= limit:
        return None
    used = private_bytes(process)
    return used if used > limit else None


def cpu_seconds(process: int) -> float:
    """CPU time of `process`, its descendants and those of them that were waited for."""
    return sum(_cpu(each) for each in family(process))


def family(process: int) -> Iterator[int]:
    """The process and its descendants."""
    waiting = [process]
    while waiting:
        current = waiting.pop()
        yield current
        for children in _children_files(current):
            waiting += map(int, _read(children).split())


def _children_files(process: int) -> list[Path]:
    try:
        return [task / "children" for task in Path(f"/proc/{process}/task").iterdir()]
    except OSError:
        return []


def _resident(process: int) -> int:
    fields = _read(Path(f"/proc/{process}/statm")).split()
    return int(fields[1]) * PAGE if fields else 0


def _private(process: int) -> int:
    lines = _read(Path(f"/proc/{process}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(PRIVATE))


def _cpu(process: int) -> float:
    # The name may hold spaces and brackets: fields are counted after the last bracket.
    fields = _read(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS if len(fields) > 14 else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # it has ended
