"""Parsers of setting values: text in, value out, ValueError with the rule when it does not fit."""

import re
from pathlib import Path
from typing import Final

DURATION_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
SIZE_UNITS: Final = {
    "": 1,
    "B": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "m": 10**-3,
}


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (`1m30s`, `250ms`) or of a plain number of seconds."""
    value = text.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    parts = DURATION_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("a duration such as 30, 250ms or 1m30s")
    return sum(float(number) * DURATION_UNITS[unit] for number, unit in parts)


def parse_size(text: str) -> int:
    """Bytes of a size as Kubernetes writes it (`128Mi`, `1G`) or of a plain number of bytes."""
    match = SIZE.fullmatch(text.strip())
    if match is None or match[2] not in SIZE_UNITS:
        raise ValueError("a size such as 1048576, 128Mi or 1G")
    return int(float(match[1]) * SIZE_UNITS[match[2]])


def parse_count(text: str) -> int:
    """A whole number that is not negative."""
    # \d takes the digits of every script; a label is written in these ten.
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise ValueError("a whole number, 0 or more")
    return int(text)


def parse_positive_count(text: str) -> int:
    """A whole number above 0."""
    if (value := parse_count(text)) < 1:
        raise ValueError("a whole number, 1 or more")
    return value


def parse_positive_duration(text: str) -> float:
    """Seconds of a duration above 0."""
    if (value := parse_duration(text)) <= 0:
        raise ValueError("a duration above 0 such as 30, 250ms or 1m30s")
    return value


def parse_positive_size(text: str) -> int:
    """Bytes of a size above 0."""
    if (value := parse_size(text)) < 1:
        raise ValueError("a size above 0 such as 1048576, 128Mi or 1G")
    return value


def parse_port(text: str) -> int:
    """A TCP port; 0 lets the kernel choose a free one."""
    if not re.fullmatch(r"[0-9]{1,5}", text.strip()) or int(text) > 65535:
        raise ValueError("a port from 0 to 65535")
    return int(text)


def parse_flag(text: str) -> bool:
    """True or false."""
    value = text.strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def parse_text(text: str) -> str:
    """The text as it is."""
    return text


def parse_path(text: str) -> Path:
    """A file system path, made absolute."""
    if not text:
        raise ValueError("a path")
    return Path(text).absolute()
