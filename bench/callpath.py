"""The gateway's call path against nginx as the same proxy, in front of one echo replica.

    python bench/callpath.py [--rounds 8] [--seconds 1] [--connections 64 16] [--work 20]

Needs wrk and nginx. A trivial http1 echo listens on a Unix socket; in front of it the gateway's
whole call path (slots, pool, headers, metrics, deadlines) and nginx, one worker, keep-alive
upstream. wrk posts 601 bytes with three headers. Slices alternate, as the speed of a machine
swings more within seconds than the two differ; the ratio is the median over the rounds. CPU per
call is user and system time of the proxy. --against and --interpreter add to each round the gateway
of another checkout, or under another interpreter. An echo makes the proxy's share as large as it
can be; --work adds what a runtime and its handler would take.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.proxy.connection_pool import ConnectionPool
from gateway.proxy.invoker import Invoker
from gateway.proxy.router import Router
from gateway.settings import GatewaySettings
from gateway.types.function import (
    FunctionDeployment,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from sluice.http1.exchange import Exchange
from sluice.http1.server import Server

BODY = 601
WRK_SCRIPT = f"""
wrk.method = "POST"
wrk.body = string.rep("x", {BODY})
wrk.headers["content-type"] = "application/json"
wrk.headers["accept"] = "*/*"
wrk.headers["user-agent"] = "wrk"
"""
NGINX_CONF = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000;
  upstream replica {{
    server unix:{folder}/echo.sock; keepalive 256; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location /function/echo {{
      proxy_pass http://replica/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr:$remote_port;
      proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Call-Id $request_id;
    }}
  }}
}}
"""


class Echo:
    """Answers with the body, after `work` seconds of the processor's time."""

    work = 0.0

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._body = exchange, b""

    def body_received(self, data: bytes) -> None:
        self._body = self._body + data if self._body else data

    def body_complete(self) -> None:
        if self.work:
            end = time.perf_counter() + self.work
            while time.perf_counter() < end:
                pass
        self._exchange.respond(200, b"content-type: application/json\r\n", self._body)

    def client_gone(self) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


class Nobody:
    """There are no services to identify callers for."""

    def identify(self, authorization: bytes | None, peer: str = "") -> None:
        return None


async def serve_echo(path: Path) -> None:
    await Server(Echo).listen_unix(path)
    await asyncio.Event().wait()


async def serve_gateway(path: Path, port: int) -> None:
    settings = GatewaySettings()
    metrics = Metrics()
    connection_pool = ConnectionPool(
        settings.connect_timeout, settings.kept_connections, settings.kept_timeout
    )
    listeners = Listeners(lambda _function: None, lambda _function: None, connection_pool.retire)
    activator = Activator(listeners, metrics, settings.wait_timeout, settings.waiting_calls)
    invoker = Invoker(activator, connection_pool, metrics, settings)
    function = FunctionId("echo")
    replica = Replica("echo-1", UnixAddress(str(path)), ReplicaState.READY)
    deployment = FunctionDeployment(function, "echo", annotations={"com.sluice.concurrency": "100"})
    activator.apply(FunctionStatus(deployment, 1, (replica,), datetime.now(UTC)))
    await Server(Router(invoker, Nobody(), {}, Echo, settings)).listen_tcp("127.0.0.1", port)
    await invoker.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 16])
    parser.add_argument("--work", type=int, default=0, help="microseconds the replica computes")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--interpreter", type=Path, help="another Python of the same version")
    parser.add_argument("--profile", type=Path, help="write the gateway's profile to this file")
    parser.add_argument("--serve", choices=["echo", "gateway"], help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    with tempfile.TemporaryDirectory() as name, running(Path(name), options) as proxies:
        for connections in options.connections:
            report(connections, measure(Path(name), proxies, connections, options))


def serve(options: argparse.Namespace) -> None:
    if options.serve == "echo":
        Echo.work = options.work / 1e6
        work = serve_echo(options.socket)
    else:
        work = serve_gateway(options.socket, options.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.profile is None:
            runner.run(work)
            return
        import cProfile  # noqa: PLC0415 - only when asked for

        profile = cProfile.Profile()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            profile.runcall(runner.run, work)
        finally:
            profile.dump_stats(options.profile)


@contextmanager
def running(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, tuple[int, int]]]:
    """Start replica and proxies; yields name -> (port, pid of the process that does the work)."""
    ports = free_ports(4)
    conf = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    conf.write_text(NGINX_CONF.format(folder=folder, port=ports[1], user=user))
    (folder / "post.lua").write_text(WRK_SCRIPT)
    me = [sys.executable, __file__, "--socket", str(folder / "echo.sock"), "--serve"]
    profiling = ["--profile", str(options.profile)] if options.profile else []
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    started = [start(*me, "echo", "--work", str(options.work))]
    try:
        wait_for(folder / "echo.sock")
        started.append(start(*me, "gateway", "--port", str(ports[0]), *profiling))
        started.append(start(nginx, "-c", str(conf), "-p", str(folder)))
        for port in ports[:2]:
            wait_for(port)
        children = Path(f"/proc/{started[2].pid}/task/{started[2].pid}/children").read_text()
        proxies = {
            "gateway": (ports[0], started[1].pid),
            "nginx": (ports[1], int(children.split()[0])),
        }
        for port, (name, program, folders) in zip(ports[2:], others(options), strict=False):
            arguments = [program, *me[1:], "gateway", "--port", str(port)]
            started.append(start(*arguments, PYTHONPATH=os.pathsep.join(map(str, folders))))
            wait_for(port)
            proxies[name] = port, started[-1].pid
        yield proxies
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(10)


def others(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Path]]]:
    """Name, interpreter and module folders of the gateways to compare with."""
    if options.against:
        yield "against", sys.executable, [options.against]
    if options.interpreter:
        libraries = Path(uvloop.__file__).parent.parent
        path = options.interpreter.absolute()
        yield str(path), str(path), [Path(__file__).parent.parent, libraries]


def start(*command: str, **variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env={**os.environ, **variables})  # noqa: S603 - this file, or nginx


def measure(
    folder: Path,
    proxies: dict[str, tuple[int, int]],
    connections: int,
    options: argparse.Namespace,
) -> dict[str, list[tuple[float, float]]]:
    """Per proxy a list of (calls per second, CPU microseconds per call), one for each round."""
    slices: dict[str, list[tuple[float, float]]] = {name: [] for name in proxies}
    for each in range(options.rounds + 1):
        for name, (port, pid) in proxies.items():
            before = cpu_seconds(pid)
            calls, seconds = load(folder, port, connections, options.seconds)
            used = cpu_seconds(pid) - before
            if each:  # the first round warms up
                slices[name].append((calls / seconds, used / calls * 1e6))
    return slices


def load(folder: Path, port: int, connections: int, seconds: int) -> tuple[int, float]:
    """Calls answered and the time they took. Raises when one was not answered with 200."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(folder / "post.lua")]
    command.append(f"http://127.0.0.1:{port}/function/echo")
    text = subprocess.run(  # noqa: S603 - wrk
        command, capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"calls failed:\n{text}")
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", text)
    if found is None:
        raise RuntimeError(f"wrk said:\n{text}")
    return int(found[1]), float(found[2]) * (0.001 if found[3] == "ms" else 1)


def report(connections: int, slices: dict[str, list[tuple[float, float]]]) -> None:
    median = {
        name: [statistics.median(values) for values in zip(*rounds, strict=True)]
        for name, rounds in slices.items()
    }
    for name in slices.keys() - {"nginx"}:
        pairs = zip(slices[name], slices["nginx"], strict=True)
        ratios = [ours[0] / theirs[0] for ours, theirs in pairs]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        result = {
            "proxy": name,
            "connections": connections,
            "ratio_to_nginx": round(statistics.median(ratios), 3),
            "quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
            "per_s": round(median[name][0]),
            "nginx_per_s": round(median["nginx"][0]),
            "cpu_us": round(median[name][1], 1),
            "nginx_cpu_us": round(median["nginx"][1], 1),
            "python": name if name.startswith("/") else sys.executable,
        }
        sys.stdout.write(json.dumps(result) + "\n")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(place: Path | int) -> None:
    """Return once somebody listens there. Raises TimeoutError after 10 s."""
    family = socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET
    address = str(place) if isinstance(place, Path) else ("127.0.0.1", place)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket(family) as probe:
            if probe.connect_ex(address) == 0:
                return
        time.sleep(0.02)  # nothing tells of another process's listener
    raise TimeoutError(f"nobody listens on {place}")


if __name__ == "__main__":
    main()
