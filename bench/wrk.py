"""wrk, the load generator, with a request written as a Lua script."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
DURATION: Final = r"([\d.]+)(us|ms|s|m)"
DEFAULT_HEADERS: Final = {"content-type": "application/json", "accept": "*/*", "user-agent": "wrk"}


class LoadError(Exception):
    """Calls of a load failed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one slice of load saw. rate: answers a second; p50, p99: seconds."""

    calls: int
    rate: float
    p50: float
    p99: float
    failed: int


@dataclass(frozen=True, slots=True)
class WrkRequest:
    """What is sent. bodies: taken in turn. headers: besides what wrk sends itself."""

    script: Path

    @classmethod
    def write(
        cls,
        path: Path,
        bodies: Sequence[str],
        headers: Mapping[str, str] = DEFAULT_HEADERS,
    ) -> "WrkRequest":
        """The request as a script in the file `path`."""
        lines = ['wrk.method = "POST"', f"wrk.body = {_lua(bodies[0])}"]
        lines += [f"wrk.headers[{_lua(name)}] = {_lua(text)}" for name, text in headers.items()]
        if len(bodies) > 1:
            # Formatted once: building a request for each call would make wrk the bottleneck.
            listed = ", ".join(_lua(body) for body in bodies)
            lines += [
                f"local bodies, requests, turn = {{{listed}}}, {{}}, 0",
                "init = function(args)",
                "  for i, body in ipairs(bodies) do",
                "    requests[i] = wrk.format(nil, nil, nil, body)",
                "  end",
                "end",
                "request = function()",
                "  turn = turn % #requests + 1",
                "  return requests[turn]",
                "end",
            ]
        path.write_text("\n".join(lines) + "\n")
        return cls(path)


def load(
    url: str, request: WrkRequest, connections: int, seconds: float = 1, failures: bool = False
) -> Load:
    """Closed-loop load of one thread. Raises LoadError where calls fail, unless `failures`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "30s"]
    done = subprocess.run(  # noqa: S603 - wrk
        [*command, "-s", str(request.script), url], capture_output=True, text=True, check=False
    )
    about = f"{url}, {connections} connections for {seconds:g} s"
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())
        raise LoadError(f"{about}: wrk ended with {done.returncode}: {words}")
    return read(done.stdout, about, failures)


def read(text: str, about: str, failures: bool = False) -> Load:
    """What wrk told in `text`. Raises LoadError in one line that begins with `about`."""
    counted = re.search(rf"(\d+) requests in {DURATION}", text)
    calls = int(counted[1]) if counted else 0
    failed = sum(int(found) for found in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    broken = re.search(r"Socket errors: (.*)", text)
    errors = f", socket errors: {broken[1]}" if broken else ""
    if counted is None or calls == 0:
        raise LoadError(f"{about}: no call was answered{errors}")
    if not failures and (failed or broken):
        raise LoadError(f"{about}: {failed} of {calls} answers were not 2xx{errors}")
    taken = float(counted[2]) * UNITS[counted[3]]
    return Load(calls, calls / taken, _share(text, 50), _share(text, 99), failed)


def _share(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+{DURATION}", text, re.MULTILINE)
    if found is None:
        raise LoadError(f"wrk told no {percent}% of the latencies")
    return float(found[1]) * UNITS[found[2]]


def _lua(text: str) -> str:
    """A Lua string; JSON's escapes that can occur here mean the same there."""
    return json.dumps(text)
