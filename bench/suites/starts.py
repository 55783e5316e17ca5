"""From zero to the first byte through the gateway, and what a replica and the gateway weigh.

The function is the real `predict` with its model. "From a live zygote": replicas are forked from
a process that has the libraries; scaling to zero between two starts takes longer than the making
of a spare, so that each finds one, while of many woken at once one does. "Without a zygote": it is
killed before each call, so that the call waits for a new one; the control is a fresh interpreter
that runs the same function outside of the platform, to its first answer.
"""

import http.client
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.processes import command, descendants, environment, private_mib
from bench.rows import Row, at_least, at_most, observed, quantile, ratio_at_most
from bench.stage import Stage
from bench.suites.calls import body_of_row

STARTS: Final = 50
COLD_STARTS: Final = 7
AT_ONCE: Final = 20
BURST: Final = 200
REPLICAS: Final = 5
# A variable that libraries read when they are loaded gives the function a zygote of its own.
OWN_ZYGOTE: Final = {"OMP_WAIT_POLICY": "PASSIVE"}


def run(stage: Stage) -> list[Row]:
    """Rows of cold starts and memory."""
    rows = [at_most("gateway, idle", stage.idle_mib, "MiB RSS", 100)]
    rows += _from_zygote(stage)
    rows += _without_zygote(stage)
    rows += _at_once(stage)
    rows += _burst(stage)
    return [*rows, _memory(stage)]


class Caller:
    """Calls one function over a connection of its own for each call."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._body = body_of_row().encode()

    def __call__(self, _number: int = 0) -> tuple[int, float]:
        """The status of one call and the seconds to the first byte of its answer."""
        place = (str(self._parts.hostname), int(self._parts.port or 80))
        head = (
            f"POST {self._parts.path} HTTP/1.1\r\nhost: {self._parts.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self._body)}\r\n\r\n"
        )
        with socket.create_connection(place, timeout=60) as connection:
            begun = time.perf_counter()
            connection.sendall(head.encode() + self._body)
            first = connection.recv(65536)
            return int(first.split()[1]), time.perf_counter() - begun


def _from_zygote(stage: Stage) -> list[Row]:
    stage.log("starts from a live zygote")
    stage.deploy_predict("woken")
    call = Caller(stage.calls("woken"))
    _succeed(call())
    taken = []
    for _ in range(STARTS):
        stage.scale("woken", 0)
        taken.append(_succeed(call()) * 1000)
    stage.api.remove("woken")
    note = f"{STARTS} starts"
    return [
        at_most("0 to 1, live zygote, p50", statistics.median(taken), "ms", 40, note=note),
        at_most("0 to 1, live zygote, p99", quantile(taken, 0.99), "ms", 120, note=note),
    ]


def _without_zygote(stage: Stage) -> list[Row]:
    stage.log("starts without a zygote")
    stage.deploy_predict("unwarmed", envVars=OWN_ZYGOTE)
    call = Caller(stage.calls("unwarmed"))
    _succeed(call())
    fresh = FreshInterpreter(stage, _zygote(stage))
    pairs = []
    for turn in range(COLD_STARTS + 1):
        stage.scale("unwarmed", 0)
        _end(_zygote(stage))
        ours = _succeed(call()) * 1000
        control = fresh.first_response() * 1000
        if turn:  # the first fills the page cache and the control's model cache
            pairs.append((ours, control))
    stage.api.remove("unwarmed")
    return [
        ratio_at_most(
            "0 to 1, no zygote, against a fresh interpreter",
            pairs,
            "ms",
            1.2,
            note=f"{COLD_STARTS} starts of each, interleaved",
        )
    ]


def _end(pid: int) -> None:
    """Kill a process and return once its parent has seen that it ended."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not end")
        time.sleep(0.001)  # its parent is told, which we are not


class FreshInterpreter:
    """The same bundle served by `python -m sluice.runtime`, outside of the platform."""

    def __init__(self, stage: Stage, zygote: int) -> None:
        self._python = command(zygote)[0]
        self._runtime = Path(f"/proc/{zygote}/cwd").readlink()
        bundles = stage.platform.data_dir / "bundles"
        self._folder = stage.folder / "fresh"
        (self._folder / "cache").mkdir(parents=True, exist_ok=True)
        secrets = stage.platform.data_dir / "secrets"
        self._socket = self._folder / "socket"
        self._environ = environment(zygote) | {
            "SLUICE_BUNDLE": str(next(bundles.glob("*/function/served.py")).parents[1]),
            "SLUICE_SOCKET": str(self._socket),
            "SLUICE_SECRETS_DIR": str(secrets),
            "SLUICE_GATEWAY_URL": stage.url,
            "SLUICE_CACHE_DIR": str(self._folder / "cache"),
            "SLUICE_REPLICA": "fresh",
            "OPENFAAS_NAME": "fresh",
            "OPENFAAS_NAMESPACE": "openfaas-fn",
            "default_model": "breast-cancer@forest",
        }

    def first_response(self) -> float:
        """Seconds from the start of the process to its first answer."""
        self._socket.unlink(missing_ok=True)
        begun = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our runtime
            [self._python, "-P", "-m", "sluice.runtime"],
            env=self._environ,
            cwd=self._runtime,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("ab"),
        )
        try:
            _succeed((self._ask(), 0.0))
            return time.perf_counter() - begun
        finally:
            process.kill()
            process.wait()

    def _ask(self) -> int:
        connection = http.client.HTTPConnection("fresh")
        deadline = time.monotonic() + 30
        connection.sock = socket.socket(socket.AF_UNIX)
        while connection.sock.connect_ex(str(self._socket)) != 0:
            if time.monotonic() > deadline:
                raise TimeoutError((self._folder / "log").read_text())
            time.sleep(0.001)  # nothing tells of another process's listener
        connection.request("POST", "/", body_of_row())
        status = connection.getresponse().status
        connection.close()
        return status


def _zygote(stage: Stage) -> int:
    """The process that replicas of the function with a zygote of its own are forked from."""
    name, value = next(iter(OWN_ZYGOTE.items()))
    for pid in sorted(descendants(stage.gateway)):
        if (
            "sluice.runtime.launching.zygote" in command(pid)
            and environment(pid).get(name) == value
        ):
            return pid
    raise RuntimeError("no zygote of the function's own")


def _at_once(stage: Stage) -> list[Row]:
    stage.log(f"{AT_ONCE} functions woken at once")
    names = [f"sleeper-{number}" for number in range(AT_ONCE)]
    for name in names:
        stage.deploy_predict(name)
        _succeed(Caller(stage.calls(name))())
    for name in names:
        stage.api.scale(name, 0)
    for name in names:
        stage.until(name, replicas=0, availableReplicas=0)
    with ThreadPoolExecutor(AT_ONCE) as callers:
        calls = [callers.submit(Caller(stage.calls(name))) for name in names]
        seen = [call.result() for call in calls]
    for name in names:
        stage.api.remove(name)
    answered = sum(status == 200 for status, _ in seen)
    slowest = quantile([seconds for _, seconds in seen], 0.99)
    return [
        at_least("functions woken at once, answered", answered, "of 20", AT_ONCE),
        at_most("functions woken at once, p99", slowest * 1000, "ms", 1000),
    ]


def _burst(stage: Stage) -> list[Row]:
    stage.log(f"{BURST} calls to a function at zero")
    stage.deploy_predict("burst", labels={"com.openfaas.scale.min": "1"})
    call = Caller(stage.calls("burst"))
    _succeed(call())
    stage.scale("burst", 0)
    with ThreadPoolExecutor(BURST) as callers:
        seen = list(callers.map(call, range(BURST)))
    replicas = int(stage.api.function("burst")["replicas"])
    stage.api.remove("burst")
    failed = sum(status != 200 for status, _ in seen)
    slowest = max(seconds for _, seconds in seen)
    return [
        at_most("burst at zero, failed calls", failed, f"of {BURST}", 0),
        at_most("burst at zero, replicas started", replicas, "replicas", 1),
        observed("burst at zero, slowest call", slowest * 1000, "ms"),
    ]


def _memory(stage: Stage) -> Row:
    stage.log("memory of replicas")
    stage.deploy_predict("weighed", labels={"com.openfaas.scale.min": "1"})
    # Each replica answers before it is weighed: the first call allocates.
    _warm(Caller(stage.calls("weighed")))
    before = descendants(stage.gateway)
    stage.scale("weighed", 1 + REPLICAS)
    _warm(Caller(stage.calls("weighed")))
    added = descendants(stage.gateway) - before
    total = sum(private_mib(pid) for pid in added)
    stage.api.remove("weighed")
    note = f"Private_Dirty + Private_Clean of {len(added)} processes of {REPLICAS} replicas"
    return at_most("each further replica of predict", total / REPLICAS, "MiB", 25, note=note)


def _warm(call: Callable[[int], tuple[int, float]]) -> None:
    with ThreadPoolExecutor(16) as callers:
        for response in callers.map(call, range(10 * REPLICAS)):
            _succeed(response)


def _succeed(response: tuple[int, float]) -> float:
    """The seconds of a call that succeeded."""
    status, seconds = response
    if status != 200:
        raise RuntimeError(f"a call was answered {status}")
    return seconds
