"""Names and amounts that a deployment asks for, with errors that state the rule."""

from typing import Final

from gateway.types.errors import InvalidRequestError
from gateway.types.function import Resources
from gateway.types.ids import parse_name, parse_secret_name
from gateway.types.quantities import parse_cpu, parse_memory

LEAST_MEMORY: Final = 1 << 20
LEAST_CPU: Final = 0.001


def check_label(what: str, name: str) -> None:
    """Raise InvalidRequestError unless `name` is a lower-case DNS label."""
    try:
        parse_name(name)
    except ValueError as error:
        raise InvalidRequestError(f"{what} {name[:80]!r}: expected {error}") from error


def check_secret(name: str) -> None:
    """Raise InvalidRequestError unless `name` may name a secret."""
    try:
        parse_secret_name(name)
    except ValueError as error:
        raise InvalidRequestError(f"secret {name[:80]!r}: expected {error}") from error


def memory_bytes(resources: Resources | None, what: str) -> int | None:
    """Bytes of the memory amount, None where there is none. Raises InvalidRequestError."""
    text = resources.memory if resources else ""
    if not text:
        return None
    try:
        amount = parse_memory(text)
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
    try:
        cores = parse_cpu(text)
    except ValueError as error:
        raise InvalidRequestError(f"{what}.cpu {text[:40]!r}: expected {error}") from error
    if cores < LEAST_CPU:
        raise InvalidRequestError(f"{what}.cpu {text[:40]!r}: expected 1m or more")
    return cores
