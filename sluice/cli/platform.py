"""The platform on this machine: which programs it is made of, starting and stopping it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.settings import GatewaySettings
from sluice import logs
from sluice.cli.child import Program, await_healthy
from sluice.cli.errors import CommandError
from sluice.cli.pidfile import PidFile, pidfile_path, running_pid, stop
from sluice.cli.settings import CliSettings
from sluice.cli.supervisor import Supervisor, notify
from sluice.settings import own_host

DRAIN_MARGIN: Final = 10.0
READY: Final = "ready"
# Set in every process of ours before onnxruntime may be imported: it would start a thread,
# write a file and look up a host.
TELEMETRY_OFF: Final = {"ORT_DISABLE_TELEMETRY": "1"}


def programs(environ: Mapping[str, str]) -> list[Program]:
    """Registry, gateway and triggers as `environ` configures them. Raises SettingError."""
    settings = GatewaySettings.load(environ)
    logs = settings.data_dir / "logs"
    shared = {**environ, **TELEMETRY_OFF, "SLUICE_DATA_DIR": str(settings.data_dir)}
    health = {
        "registry": f"unix:{settings.registry_path}",
        "gateway": f"{gateway_url(settings)}/healthz",
        "triggers": f"unix:{settings.triggers_path}",
    }
    return [Program(name, name, shared, url, logs / f"{name}.log") for name, url in health.items()]


def gateway_url(settings: GatewaySettings) -> str:
    """The gateway's URL as this machine reaches it."""
    return f"http://{own_host(settings.host)}:{settings.port}"


def metrics_url(settings: GatewaySettings) -> str:
    """URL of the gateway's metrics as this machine reaches it."""
    return f"{gateway_url(settings).rpartition(':')[0]}:{settings.metrics_port}/metrics"


def serve(environ: Mapping[str, str], ready_fd: int, start_timeout: float) -> None:
    """Run the platform in the foreground until SIGTERM.

    ready_fd: descriptor to write READY or the reason of a failure to; -1 for a terminal. Raises
    CommandError.
    """
    settings = GatewaySettings.load(environ)
    logs.configure(CliSettings.load(environ).log_format)
    try:
        with PidFile(pidfile_path(settings.data_dir)):
            asyncio.run(_supervise(environ, settings, ready_fd, start_timeout))
    except (CommandError, OSError) as error:
        if ready_fd >= 0:
            notify(ready_fd, str(error))
        if isinstance(error, CommandError):
            raise
        raise CommandError(str(error)) from error


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
    """Start the platform detached and wait until it is ready; false when another start was first.

    Raises CommandError with the program's own output when it cannot start.
    """
    settings = GatewaySettings.load(environ)
    with _named(settings.data_dir):
        if running_pid(pidfile_path(settings.data_dir)) is None:
            report = _start_detached(environ, settings.data_dir / "logs")
            if report == READY:
                return True
            if running_pid(pidfile_path(settings.data_dir)) is None:
                raise CommandError(report)
    asyncio.run(_await_other(environ, CliSettings.load(environ).start_timeout))
    return False


def end(data_dir: Path, timeout: float) -> bool:
    """Stop the platform of `data_dir`; false when none ran. Raises CommandError."""
    with _named(data_dir):
        pid = running_pid(pidfile_path(data_dir))
    if pid is None:
        return False
    stop(pid, timeout)
    return True


def _start_detached(environ: Mapping[str, str], logs: Path) -> str:
    """The supervisor's report: READY or why it ended."""
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    reader, writer = os.pipe()
    with (logs / "supervisor.log").open("ab") as output:
        supervisor = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", "sluice", "serve", "--ready-fd", str(writer)],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writer],
            start_new_session=True,
        )
    os.close(writer)
    with os.fdopen(reader) as response:
        report = response.read() or f"the supervisor ended; see {logs / 'supervisor.log'}"
    if report != READY:
        supervisor.wait()
    return report


async def _await_other(environ: Mapping[str, str], seconds: float) -> None:
    """Wait for a platform that runs, or that another command is starting, to be ready."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(await_healthy(each) for each in programs(environ)))
    except TimeoutError as error:
        url = gateway_url(GatewaySettings.load(environ))
        raise CommandError(
            f"a platform runs on this data folder but {url} is not healthy after {seconds:.0f} s; "
            "see its logs, or use the SLUICE_PORT that it was started with"
        ) from error


@contextmanager
def _named(data_dir: Path) -> Iterator[None]:
    """Turn OSError into CommandError that names the data folder."""
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"data folder {data_dir}: {error.strerror or error}; choose another with "
            "SLUICE_DATA_DIR"
        ) from error
