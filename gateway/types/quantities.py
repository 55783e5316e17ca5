"""Amounts of CPU and memory as Kubernetes writes them. No I/O."""

import re
from typing import Final

from sluice.settings import parse_size

CPU: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})(m?)")


def parse_cpu(text: str) -> float:
    """Cores of `500m`, `0.5` or `.5`. Raises ValueError with the rule."""
    match = CPU.fullmatch(text.strip())
    if match is None:
        raise ValueError("a number of cores such as 500m or 0.5")
    return float(match[1]) / (1000 if match[2] else 1)


def parse_memory(text: str) -> int:
    """Bytes of `128Mi`, `1G` or a plain number, above 0. Raises ValueError with the rule."""
    if (size := parse_size(text)) < 1:
        raise ValueError("a size above 0 such as 128Mi or 1G")
    return size
