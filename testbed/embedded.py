"""What tests of providers need: bundles without a build, a watcher, calls to a replica."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gateway.providers import Provider
from gateway.providers.embedded.bundle_store import BundleRow
from gateway.providers.embedded.bundles import MARKER, Bundle, Bundles
from gateway.settings import GatewaySettings
from gateway.types.function import (
    Address,
    FunctionDeployment,
    FunctionEvent,
    FunctionRemoved,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId

LOCK_KEY: Final = "test-lock"
PATIENCE: Final = 60.0
RUNTIME_LIBRARIES: Final = ("httptools", "prometheus_client", "uvloop")
HELLO: Final = "def handle(event, context):\n    return 'hello'\n"


def settings_of(data_dir: Path, **knobs: Any) -> GatewaySettings:
    """Settings with a data folder and quick health checks that a slow machine passes too."""
    quick = {"health_interval": 0.5, "health_timeout": 30.0}
    return replace(GatewaySettings(), data_dir=data_dir, **(quick | knobs))


def make_bundles(data_dir: Path, whole: bool = False) -> Bundles:
    """Bundles of one environment that has what the runtime needs.

    whole: all libraries of the test's own interpreter, by a link; a sandbox does not show them
    where that interpreter lies in a folder that is replaced in it.
    """
    bundles = Bundles(data_dir)
    environment = bundles.environment(LOCK_KEY)
    if not environment.exists():
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (environment / "bin").mkdir(parents=True)
        (environment / "lib" / version).mkdir(parents=True)
        base = Path(os.path.realpath(sys.executable))
        (environment / "bin" / "python").symlink_to(base)
        (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
        libraries = next(Path(path) for path in sys.path if path.endswith("site-packages"))
        site = environment / "lib" / version / "site-packages"
        if whole:
            site.symlink_to(libraries)
        for name in () if whole else RUNTIME_LIBRARIES:
            shutil.copytree(libraries / name, site / name, copy_function=_link_or_copy)
        (environment / MARKER).write_text("{}")
    return bundles


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def build(bundles: Bundles, image: str, code: str, *preload: str) -> Bundle:
    """The bundle of a handler; the digest is the image's and the code's."""
    digest = sha256(f"{image} {code} {preload}".encode()).hexdigest()
    with bundles.staging() as folder:
        (folder / "function").mkdir()
        (folder / "function" / "__init__.py").touch()
        (folder / "function" / "handler.py").write_text(code)
        return bundles.add(folder, BundleRow(image, digest, LOCK_KEY, preload, "handle"))


def asked(name: str, **fields: Any) -> FunctionDeployment:
    """A deployment of image NAME, of which a test says only what matters to it."""
    return FunctionDeployment(FunctionId(name), fields.pop("image", name), **fields)


class Watcher:
    """Every event of a provider, and the current status of each function."""

    def __init__(self, provider: Provider) -> None:
        self.events: list[FunctionEvent] = []
        self.now: dict[FunctionId, FunctionStatus] = {}
        self._changed = asyncio.Event()
        self.end = provider.watch(self._take)

    def _take(self, event: FunctionEvent) -> None:
        self.events.append(event)
        if isinstance(event, FunctionRemoved):
            self.now.pop(event.id, None)
        else:
            self.now[event.id] = event
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once `condition` holds; an event is waited for each time that it does not."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def next(self) -> None:
        """Return after the next event."""
        seen = len(self.events)
        await self.until(lambda: len(self.events) > seen)

    async def ready(self, name: str, count: int = 1) -> list[Replica]:
        """The replicas of a function once exactly `count` run and are ready."""
        function = FunctionId(name)

        def settled() -> bool:
            status = self.now.get(function)
            states = [each.state for each in status.running] if status else None
            return states == [ReplicaState.READY] * count

        await self.until(settled)
        return list(self.now[function].running)

    async def successor(self, name: str, replica: Replica) -> Replica:
        """The replica of a function that is ready once `replica` is gone."""
        function = FunctionId(name)
        await self.until(lambda: replica.id not in {each.id for each in self.now[function].running})
        return (await self.ready(name))[0]

    async def failed(self, name: str) -> Replica:
        """The first replica of a function that is seen to have failed."""
        found: list[Replica] = []

        def seen() -> bool:
            events = [each for each in self.events if isinstance(each, FunctionStatus)]
            running = [each for event in events if event.id.name == name for each in event.running]
            found[:] = [each for each in running if each.state is ReplicaState.FAILED]
            return bool(found)

        await self.until(seen)
        return found[0]

    def status(self, name: str) -> FunctionStatus:
        return self.now[FunctionId(name)]


async def call(address: Address, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of a POST to a replica."""
    async with asyncio.timeout(PATIENCE):
        if isinstance(address, UnixAddress):
            reader, writer = await asyncio.open_unix_connection(address.path)
        else:
            reader, writer = await asyncio.open_connection(address.host, address.port)
        head = f"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
        try:
            writer.write(f"{head}\r\n".encode() + body)
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
            fields = dict(line.partition(b": ")[::2] for line in answered.split(b"\r\n")[1:])
            content = await reader.readexactly(int(fields[b"content-length"]))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    return int(answered.split()[1]), content


async def call_json(address: Address, document: object) -> Any:
    """The decoded answer of a replica to a JSON document."""
    status, body = await call(address, json.dumps(document).encode())
    assert status == 200, body
    return json.loads(body)
