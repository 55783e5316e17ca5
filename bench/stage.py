"""What the suites run on: a platform of their own, with the quickstart's functions and model."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.processes import command, rss_mib
from sluice.cli.client import GatewayClient
from sluice.cli.context import make_context, write_tar
from sluice.cli.stack import Function, Stack
from testbed.platform import ROOT, LivePlatform, live_platform

PATIENCE: Final = 60.0
FIXED: Final = {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "1"}
MODEL: Final = "breast-cancer"
ALIAS: Final = "forest"


class StageError(Exception):
    """The stage could not be set."""


@dataclass(slots=True)
class Stage:
    """A running platform. folder: scratch space. log: where progress is told.

    idle_mib: resident memory of the gateway before any load.
    """

    platform: LivePlatform
    api: GatewayClient
    folder: Path
    log: Callable[[str], None]
    idle_mib: float = 0.0
    images: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.platform.url

    @property
    def gateway(self) -> int:
        """The gateway's process."""
        for pid in self.platform.pids():
            words = command(pid)
            if words[1:] == ["-m", "gateway"] or words[-2:] == ["-m", "gateway"]:
                return pid
        raise StageError("the gateway does not run")

    def calls(self, name: str) -> str:
        """The URL of a function."""
        return f"{self.url}/function/{name}"

    def build(self, name: str, source: str, requirements: str = "", lang: str = "") -> str:
        """Build a handler, once for each name; its image."""
        if name in self.images:
            return self.images[name]
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        handler = folder / "handler"
        handler.mkdir()
        (handler / "handler.py").write_text(source)
        (handler / "requirements.txt").write_text(requirements)
        image = f"bench/{name}:1"
        function = Function(name, image, lang=lang or "python3-asgi", handler=str(handler))
        context, tar = folder / "context", folder / "context.tar"
        make_context(Stack(ROOT / "stack.yml", "", ()), function, context)
        with tar.open("wb") as output:
            write_tar(context, function, output)
        key = self.platform.payload_secret_file.read_bytes().strip()
        self.api.build(tar, key, lambda _: None)
        self.images[name] = image
        return image

    def deploy(self, name: str, image: str, **more: Any) -> None:
        """Deploy an image with a fixed count of one, and wait until it is ready."""
        body = {"service": name, "image": image, "labels": FIXED, **more}
        self.api.deploy(body)
        count = int(body["labels"].get("com.openfaas.scale.min", "1"))
        self.until(name, replicas=count, availableReplicas=count)

    def deploy_predict(self, name: str, **more: Any) -> None:
        """Deploy the real `predict` with the forest as its model."""
        environment = {"exec_timeout": "30s", "default_model": f"{MODEL}@{ALIAS}"}
        environment |= more.pop("envVars", {})
        limits = {"memory": "1Gi"}
        self.deploy(
            name,
            "sluice/predict:latest",
            envVars=environment,
            secrets=["registry-token"],
            limits=limits,
            **more,
        )

    def scale(self, name: str, count: int) -> None:
        """Set the count and wait until it is there."""
        self.api.scale(name, count)
        self.until(name, replicas=count, availableReplicas=count)

    def until(self, name: str, **wanted: object) -> Mapping[str, Any]:
        """The description of a function once the keys of `wanted` have these values."""
        deadline = time.monotonic() + PATIENCE
        while True:
            status = self.api.function(name)
            if all(status.get(key, 0) == value for key, value in wanted.items()):
                return status
            if time.monotonic() > deadline:
                raise StageError(f"{name} did not become {wanted}: {status}")
            time.sleep(0.01)  # the API is asked, it tells nobody

    def socket_of(self, name: str) -> Path:
        """The socket of the one replica of a function, which is started anew to see it come."""
        self.scale(name, 0)
        sockets = self.platform.data_dir / "run" / "sockets"
        before = set(sockets.iterdir())
        self.scale(name, 1)
        added = set(sockets.iterdir()) - before
        if len(added) != 1:
            raise StageError(f"expected one new socket for {name}, found {len(added)}")
        return added.pop()


@contextmanager
def open_stage(log: Callable[[str], None]) -> Iterator[Stage]:
    """A stage with the functions of stack.yml deployed and the quickstart's models trained."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        with platform_on(folder / "data") as platform, client(platform) as api:
            stage = Stage(platform, api, folder, log)
            log("deploying stack.yml")
            platform.sluice("up", "-f", "stack.yml")
            stage.idle_mib = rss_mib(stage.gateway)
            log("training the model")
            _train(platform)
            yield stage


@contextmanager
def platform_on(data_dir: Path, **settings: str) -> Iterator[LivePlatform]:
    """A platform that takes bodies of 100 MB and more."""
    common = {"SLUICE_BODY_BYTES": "256Mi", "SLUICE_LOG_LEVEL": "warning"}
    with live_platform(data_dir, **common, **settings) as platform:
        yield platform


@contextmanager
def client(platform: LivePlatform) -> Iterator[GatewayClient]:
    """The command's own client of the platform's gateway."""
    password = platform.password_file.read_text().strip()
    with GatewayClient(platform.url, ("admin", password)) as api:
        yield api


def _train(platform: LivePlatform) -> None:
    """Run the quickstart and name the forest it trained, whichever model it made the champion."""
    done = subprocess.run(  # noqa: S603 - our own example
        [sys.executable, "-m", "examples.quickstart", platform.url, str(platform.password_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StageError(f"the quickstart failed: {done.stdout}{done.stderr}")
    trained = re.search(rf"random_forest: {MODEL}:(\d+)", done.stdout)
    if trained is None:
        raise StageError(f"the quickstart trained no random forest: {done.stdout}")
    with platform.client() as http:
        alias = f"/registry/models/{MODEL}/aliases/{ALIAS}"
        http.put(alias, json={"version": int(trained[1])}).raise_for_status()
