"""Assembles what replicas are launched with: folders, runtime copy, zygotes, control groups."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.providers.embedded.cgroups import find_groups
from gateway.providers.embedded.launch import LaunchContext
from gateway.providers.embedded.logs import Logs
from gateway.providers.embedded.paths import Paths
from gateway.providers.embedded.runtime_copy import copy_runtime, sources
from gateway.providers.embedded.sandbox import Machine, hidden_folders
from gateway.providers.embedded.secrets import SecretFiles
from gateway.providers.embedded.unspecialized import WarmPool
from gateway.providers.embedded.zygotes import Zygotes
from gateway.settings import GatewaySettings
from sluice.launch import SANDBOX_PROBE

PROBE_SECONDS: Final = 30.0
NAMESPACES: Final = "namespaces"


async def assemble(
    settings: GatewaySettings, paths: Paths, environ: Mapping[str, str]
) -> tuple[LaunchContext, str]:
    """The context of every launch, and the isolation: `namespaces`, or `none: why`.

    environ: the gateway's own.
    """
    runtime = await asyncio.to_thread(copy_runtime, paths.data_dir / "runtime", sources())
    isolation = await probe_isolation(runtime, paths.replicas)
    zygotes_dir = paths.run / "zygotes"
    groups = await asyncio.to_thread(find_groups, paths.data_dir)
    hidden = hidden_folders(settings, paths.sockets, environ.get("HOME", ""))
    context = LaunchContext(
        settings=settings,
        machine=Machine(settings, environ, runtime, zygotes_dir, hidden),
        paths=paths,
        secrets=SecretFiles(paths.data_dir / "function-secrets", paths.secret_views),
        logs=Logs(paths.logs, settings),
        zygotes=Zygotes(
            runtime, zygotes_dir, WarmPool(groups), settings.zygote_keep, settings.start_timeout
        ),
        groups=groups,
        isolated=isolation == NAMESPACES,
    )
    return context, isolation


async def probe_isolation(runtime: Path, tmp: Path) -> str:
    """Whether replicas get namespaces here: a process tries. tmp: the folder it shows as /tmp."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        SANDBOX_PROBE,
        str(tmp),
        cwd=runtime,
        env={"PYTHONPATH": str(runtime)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PROBE_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        output = b"the kernel took too long"
    reason = output.decode("utf-8", "replace").strip()
    if process.returncode and not reason:
        reason = f"the probe ended with {process.returncode}"
    return f"none: {reason}" if reason else NAMESPACES
