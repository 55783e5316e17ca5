"""One platform for all end-to-end tests, and a way to put a handler on it."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.cli.client import GatewayClient
from sluice.cli.context import make_context, write_tar
from sluice.cli.stack import Function, Stack
from testbed.platform import ROOT, LivePlatform, live_platform

ECHO = "async def handle(event, context):\n    return event.body\n"


@dataclass(frozen=True, slots=True)
class Stage:
    """A running platform with its clients. http: with credentials; api: the command's own."""

    platform: LivePlatform
    http: httpx.Client
    api: GatewayClient

    def build(self, folder: Path, name: str, source: str | None) -> str:
        """Build a function with the given handler; returns its image."""
        folder = Path(tempfile.mkdtemp(dir=folder))
        handler = folder / "handler"
        handler.mkdir()
        if source is not None:
            (handler / "handler.py").write_text(source)
        function = Function(name, f"e2e/{name}:1", lang="python3-asgi", handler=str(handler))
        context, tar = folder / "context", folder / "context.tar"
        make_context(Stack(ROOT / "stack.yml", "", ()), function, context)
        if source is None:
            (context / "function" / "handler.py").unlink()
        with tar.open("wb") as output:
            write_tar(context, function, output)
        key = self.platform.payload_secret_file.read_bytes().strip()
        self.api.build(tar, key, lambda _: None)
        return function.image

    def deploy(self, folder: Path, name: str, source: str, **more: Any) -> None:
        """Build and deploy a function without waiting for it."""
        image = self.build(folder, name, source)
        self.api.deploy({"service": name, "image": image, **more})

    def until(self, name: str, **wanted: object) -> Mapping[str, Any]:
        """The description of a function once the keys of `wanted` have these values."""
        deadline = time.monotonic() + 120
        while True:
            status = self.api.function(name)
            if all(status.get(key, 0) == value for key, value in wanted.items()):
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.05)

    def serve(self, folder: Path, name: str, source: str, **more: Any) -> None:
        """Build and deploy a function and wait until one replica is ready."""
        self.deploy(folder, name, source, **more)
        self.until(name, availableReplicas=1)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    with live_platform(tmp_path_factory.mktemp("e2e") / ".sluice") as running:
        yield running


@pytest.fixture(scope="session")
def stage(platform: LivePlatform) -> Iterator[Stage]:
    password = platform.password_file.read_text().strip()
    with platform.client() as http, GatewayClient(platform.url, ("admin", password)) as api:
        yield Stage(platform, http, api)
