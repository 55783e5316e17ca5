"""A process that runs the provider as a gateway does, so that a test may kill it or be its user.

`python -m tests.gateway.providers.gateway_process` reads one JSON object from stdin: data_dir,
images (name -> code), functions (name -> fields) and knobs. Every function gets the secret
`NAME-token`. It writes a line of JSON when all are ready, another whenever a replica failed, and
stops at the end of stdin.
"""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from gateway.providers.embedded import EmbeddedProvider
from gateway.providers.embedded.bundles import Bundles
from gateway.types.function import FunctionEvent, FunctionStatus, Replica, ReplicaState, Resources
from gateway.types.ids import DEFAULT_NAMESPACE
from testbed.embedded import Watcher, asked, build, make_bundles, settings_of


def tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class Failures:
    """Tells of each replica that failed, once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, event: FunctionEvent) -> None:
        for replica in event.running if isinstance(event, FunctionStatus) else ():
            if replica.state is ReplicaState.FAILED and replica.id not in self._seen:
                self._seen.add(replica.id)
                tell(failed=event.id.name, reason=replica.reason)


async def deploy(provider: EmbeddedProvider, name: str, fields: dict[str, Any]) -> None:
    await provider.put_secret(DEFAULT_NAMESPACE, f"{name}-token", f"secret of {name}".encode())
    memory = fields.pop("memory", "")
    limits = Resources(memory=memory) if memory else None
    await provider.deploy(asked(name, secrets=(f"{name}-token",), limits=limits, **fields))


def described(replica: Replica) -> dict[str, str]:
    return {"id": replica.id, "socket": getattr(replica.address, "path", "")}


def listening(path: Path) -> socket.socket:
    """A socket where a service of the platform would have its own."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def shared_files(data_dir: Path, bundles: Bundles) -> list[str]:
    """Files that replicas of several functions, or their zygote, have in common."""
    bundle = bundles.resolve("intruder")
    assert bundle is not None
    site = next(bundle.python.parent.parent.glob("lib/*/site-packages"))
    runtime = next((data_dir / "runtime").iterdir())
    return [
        str(bundle.folder / "function" / "handler.py"),
        str(site / "httptools" / "__init__.py"),
        str(site / "planted.pth"),
        str(runtime / "sluice" / "runtime" / "launching" / "zygote.py"),
    ]


async def main() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    request = json.loads(await reader.readline())
    data_dir = Path(request["data_dir"])
    bundles = make_bundles(data_dir)
    for image, code in request["images"].items():
        build(bundles, image, code)
    (data_dir / "secrets").mkdir(mode=0o700, exist_ok=True)
    for name in ("basic-auth-password", "payload-secret", "registry-token"):
        (data_dir / "secrets" / name).write_text("the gateway's")
    services = [listening(data_dir / "run" / f"{name}.sock") for name in ("registry", "triggers")]
    provider = EmbeddedProvider(settings_of(data_dir, **request.get("knobs", {})), bundles)
    await provider.start()
    watcher, end = Watcher(provider), provider.watch(Failures())
    for name, fields in request["functions"].items():
        await deploy(provider, name, fields)
    replicas = {name: described((await watcher.ready(name))[0]) for name in request["functions"]}
    tell(
        pid=os.getpid(),
        isolation=provider.isolation,
        replicas=replicas,
        zygotes=list(provider.zygote_processes()),
        shared=shared_files(data_dir, bundles),
    )
    await reader.read()
    end()
    await provider.close()
    for service in services:
        service.close()


if __name__ == "__main__":
    asyncio.run(main())
