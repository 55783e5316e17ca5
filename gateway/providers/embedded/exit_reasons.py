"""Texts that say why a replica ended, for whoever deployed it."""

import signal
from typing import Final

from gateway.types.function import FunctionDeployment

MEBIBYTE: Final = 1 << 20


def of_exit(code: int, last_line: str) -> str:
    """Of a replica that exited, or was ended by signal -`code`. last_line: of its log."""
    if code < 0:
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    return f"exited with code {code}" + (f": {last_line}" if last_line else "")


def of_interpreter(deployment: FunctionDeployment, last_line: str) -> str:
    """Of a replica whose interpreter ended before it was specialized."""
    named = sorted(name for name in deployment.env_vars if name.startswith("PYTHON"))
    because = f" with envVars {', '.join(named)}" if named else ""
    return f"its interpreter does not start{because}: {last_line}"


def over_memory(deployment: FunctionDeployment, used: int) -> str:
    """Of a replica that took more memory than its limit. used: bytes."""
    limit = deployment.limits.memory if deployment.limits else ""
    return f"memory limit {limit} exceeded: used {round(used / MEBIBYTE)} MiB"
