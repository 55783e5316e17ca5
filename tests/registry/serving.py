"""A real registry for tests: in this loop, or as the process that users start."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import uvicorn

from registry.app import create
from registry.settings import RegistrySettings, read_settings
from service.process import listening

ADMIN = {"X-Sluice-Identity": "admin"}


def settings_for(folder: Path, **variables: str) -> RegistrySettings:
    given = {f"SLUICE_REGISTRY_{name}": value for name, value in variables.items()}
    return read_settings({"SLUICE_DATA_DIR": str(folder), **given})


def connect(settings: RegistrySettings) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(settings.socket_path))
    return httpx.AsyncClient(
        transport=transport, base_url="http://registry", headers=ADMIN, timeout=60
    )


@contextlib.asynccontextmanager
async def serving(settings: RegistrySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a registry that runs in this event loop on a Unix socket.

    uvicorn's protocol without its main loop: that one ticks and sleeps 0.2 s at the end, which
    tests of the process (test_process.py) go through.
    """
    app = create(settings)
    config = uvicorn.Config(app, ws="none", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with listening(settings.socket_path) as listener:
        await server.startup(sockets=[listener])
        try:
            async with connect(settings) as client:
                yield client
        finally:
            for served in server.servers:
                served.close()
            await server.lifespan.shutdown()


@contextlib.contextmanager
def process(folder: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m registry` on a data folder; killed at the end if it still runs."""
    given = {f"SLUICE_REGISTRY_{name}": value for name, value in variables.items()}
    environ = {**os.environ, **given, "SLUICE_DATA_DIR": str(folder)}
    started = subprocess.Popen(
        [sys.executable, "-m", "registry"], env=environ, stderr=subprocess.PIPE
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        if started.stderr is not None:
            started.stderr.close()


async def until_up(client: httpx.AsyncClient, started: subprocess.Popen[bytes]) -> None:
    """Return when the process answers; fails with its words when it ends instead."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/healthz")).status_code == 200:
                    return
            if started.poll() is not None and started.stderr is not None:
                raise AssertionError(started.stderr.read().decode())
            await asyncio.sleep(0.02)


async def until_waiting(client: httpx.AsyncClient) -> None:
    """Return when a request for events waits."""
    async with asyncio.timeout(60):
        while "sluice_registry_event_waits 1.0" not in (await client.get("/metrics")).text:  # noqa: ASYNC110 - another process's state can only be asked for
            await asyncio.sleep(0.01)
