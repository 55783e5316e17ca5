"""The platform on this machine: which programs it is made of, starting and stopping it."""

import asyncio
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.settings import GatewaySettings
from sluice.child import Program
from sluice.errors import CommandError
from sluice.pidfile import PidFile, pidfile_path, running_pid, stop
from sluice.supervisor import Supervisor, notify

DRAIN_MARGIN: Final = 10.0
READY: Final = "ready"
# The extra `triggers` of the package is what brings it.
NEEDED_BY_TRIGGERS: Final = "croniter"
log = logging.getLogger(__name__)
# Set in every process of ours before onnxruntime may be imported: it would start a thread,
# write a file and look up a host.
TELEMETRY_OFF: Final = {"ORT_DISABLE_TELEMETRY": "1"}


def programs(environ: Mapping[str, str]) -> list[Program]:
    """Gateway, registry and, where they are installed, triggers. Raises SettingError."""
    settings = GatewaySettings.load(environ)
    logs = settings.data_dir / "logs"
    shared = {**environ, **TELEMETRY_OFF, "SLUICE_DATA_DIR": str(settings.data_dir)}
    found = [
        Program(
            "registry",
            "registry",
            shared,
            f"unix:{settings.registry_path}",
            logs / "registry.log",
        ),
        Program(
            "gateway", "gateway", shared, f"{gateway_url(settings)}/healthz", logs / "gateway.log"
        ),
    ]
    if importlib.util.find_spec(NEEDED_BY_TRIGGERS) is not None:
        health = f"unix:{settings.triggers_path}"
        found.append(Program("triggers", "triggers", shared, health, logs / "triggers.log"))
    else:
        log.warning("event=no-triggers reason=%s is not installed", NEEDED_BY_TRIGGERS)
    return found


def gateway_url(settings: GatewaySettings) -> str:
    """The gateway's URL as this machine reaches it."""
    host = "127.0.0.1" if settings.host in {"", "0.0.0.0", "::"} else settings.host
    return f"http://{host}:{settings.port}"


def metrics_url(settings: GatewaySettings) -> str:
    """URL of the gateway's metrics as this machine reaches it."""
    return f"{gateway_url(settings).rpartition(':')[0]}:{settings.metrics_port}/metrics"


def serve(environ: Mapping[str, str], ready_fd: int, start_timeout: float) -> None:
    """Run the platform in the foreground until SIGTERM.

    ready_fd: where to say that it is ready, or why it is not; -1 for a terminal. Raises
    CommandError.
    """
    settings = GatewaySettings.load(environ)
    try:
        with PidFile(pidfile_path(settings.data_dir)):
            asyncio.run(_supervise(environ, settings, ready_fd, start_timeout))
    except CommandError as error:
        if ready_fd >= 0:
            notify(ready_fd, str(error))
        raise


async def _supervise(
    environ: Mapping[str, str], settings: GatewaySettings, ready_fd: int, start_timeout: float
) -> None:
    def ready() -> None:
        if ready_fd >= 0:
            notify(ready_fd, READY)
        else:
            sys.stderr.write(f"ready: {gateway_url(settings)}\n")

    kill_after = settings.drain_timeout + DRAIN_MARGIN
    supervisor = Supervisor(programs(environ), echo=ready_fd < 0, kill_after=kill_after)
    await supervisor.run(ready, start_timeout)


def start(environ: Mapping[str, str]) -> bool:
    """Start the platform detached and wait until it is ready; false when it ran already.

    Raises CommandError with what the program said when it cannot start.
    """
    settings = GatewaySettings.load(environ)
    if running_pid(pidfile_path(settings.data_dir)) is not None:
        return False
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    reader, writer = os.pipe()
    with (logs / "supervisor.log").open("ab") as output:
        subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", "sluice", "serve", "--ready-fd", str(writer)],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writer],
            start_new_session=True,
        )
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    if said != READY:
        raise CommandError(said or f"the supervisor ended; see {logs / 'supervisor.log'}")
    return True


def end(data_dir: Path, timeout: float) -> bool:
    """Stop the platform of `data_dir`; false when none ran. Raises CommandError."""
    pid = running_pid(pidfile_path(data_dir))
    if pid is None:
        return False
    stop(pid, timeout)
    return True
