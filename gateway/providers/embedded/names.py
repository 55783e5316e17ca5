"""Rules for names and amounts in a deployment, with errors that state the rule."""

import re
from typing import Final

from gateway.types.errors import InvalidRequestError
from gateway.types.function import Resources
from sluice.settings import parse_size

LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
SECRET: Final = re.compile(r"[A-Za-z0-9](?:[-._A-Za-z0-9]{0,251}[A-Za-z0-9])?")
LEAST_MEMORY: Final = 1 << 20
CPU: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(m?)")


def check_label(what: str, name: str) -> None:
    """Raise InvalidRequestError unless `name` is a lower-case DNS label."""
    if not LABEL.fullmatch(name):
        raise InvalidRequestError(
            f"{what} {name[:80]!r}: expected 1 to 63 lower-case letters, digits and inner '-'"
        )


def check_secret(name: str) -> None:
    """Raise InvalidRequestError unless `name` can be a secret's file."""
    if not SECRET.fullmatch(name):
        raise InvalidRequestError(
            f"secret {name[:80]!r}: expected 1 to 253 letters, digits and inner '-', '_' or '.'"
        )


def memory_bytes(resources: Resources | None, what: str) -> int | None:
    """Bytes of the memory amount, None where there is none. Raises InvalidRequestError."""
    text = resources.memory if resources else ""
    if not text:
        return None
    try:
        amount = parse_size(text)
    except ValueError as error:
        raise InvalidRequestError(f"{what}.memory {text[:40]!r}: expected {error}") from error
    if amount < LEAST_MEMORY:
        raise InvalidRequestError(f"{what}.memory {text[:40]!r}: expected 1Mi or more")
    return amount


def cpu_cores(resources: Resources | None, what: str) -> float | None:
    """Cores of the CPU amount, None where there is none. Raises InvalidRequestError."""
    text = resources.cpu if resources else ""
    if not text:
        return None
    match = CPU.fullmatch(text.strip())
    cores = float(match[1]) / (1000 if match[2] else 1) if match else 0.0
    if cores < 0.001:
        raise InvalidRequestError(
            f"{what}.cpu {text[:40]!r}: expected cores such as 0.5, or 100m, and 1m or more"
        )
    return cores
