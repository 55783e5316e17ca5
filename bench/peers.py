"""The peers that are measured beside us: nginx in front of the same replica, FastAPI, BentoML."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import children
from testbed.platform import ROOT, free_ports

PATIENCE: Final = 60.0
NGINX_CONF: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000; client_max_body_size 0; client_body_buffer_size 64k;
{upstreams}
  server {{
    listen 127.0.0.1:{port};
{locations}
  }}
}}
"""
UPSTREAM: Final = """
  upstream {name} {{ server unix:{socket}; keepalive 256; keepalive_requests 100000000; }}
"""
# What our gateway adds for the function, so that both send as much.
LOCATION: Final = """
    location /function/{name} {{
      proxy_pass http://{name}/; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr:$remote_port;
      proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Call-Id $request_id;
    }}
"""


@contextmanager
def nginx(folder: Path, sockets: Mapping[str, Path]) -> Iterator[tuple[str, int]]:
    """nginx, one worker, as a proxy of functions by name; its URL and the worker's process."""
    folder.mkdir(exist_ok=True)
    (port,) = free_ports(1)
    places = {name: {"name": name, "socket": path} for name, path in sockets.items()}
    configuration = folder / "nginx.conf"
    configuration.write_text(
        NGINX_CONF.format(
            folder=folder,
            port=port,
            # As the owner of the replicas' sockets, which nobody else may open.
            user="user root;" if os.geteuid() == 0 else "",
            upstreams="".join(UPSTREAM.format(**place) for place in places.values()),
            locations="".join(LOCATION.format(**place) for place in places.values()),
        )
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with running([program, "-c", str(configuration), "-p", str(folder)], port) as process:
        yield f"http://127.0.0.1:{port}", children(process.pid)[0]


@contextmanager
def fastapi(model: Path) -> Iterator[tuple[str, int]]:
    """FastAPI on uvicorn with the model in the file; its URL and process."""
    (port,) = free_ports(1)
    words = [
        "--port",
        str(port),
        "--log-level",
        "warning",
        "--loop",
        "uvloop",
        "--http",
        "httptools",
    ]
    command = [sys.executable, "-m", "uvicorn", "bench.fastapi_app:app", *words]
    with running(command, port, {"BENCH_MODEL": str(model)}) as process:
        yield f"http://127.0.0.1:{port}", process.pid


@contextmanager
def running(
    command: Sequence[str], port: int, variables: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that listens on a port, ended with the block."""
    environ = {**os.environ, **(variables or {})}
    process = subprocess.Popen(command, env=environ, cwd=ROOT)  # noqa: S603 - a peer
    try:
        wait_for(("127.0.0.1", port), process)
        yield process
    finally:
        process.terminate()
        process.wait(10)


def wait_for(address: tuple[str, int], process: "subprocess.Popen[bytes]") -> None:
    """Return once somebody listens there. Raises RuntimeError where the process ends before."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(address) == 0:
                return
        time.sleep(0.02)  # nothing tells of another process's listener
    raise RuntimeError(f"{process.args!r}: nobody listens on {address}")
