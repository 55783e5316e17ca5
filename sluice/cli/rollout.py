"""`sluice up`: build what a stack file names, deploy it and wait until it is ready."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from sluice.cli.client import GatewayClient
from sluice.cli.context import make_context, write_tar
from sluice.cli.errors import CommandError
from sluice.cli.session import Session
from sluice.cli.stack import Function, Stack

POLL_INTERVAL: Final = 0.1


class Rollout:
    """Brings the functions of a stack file to a gateway, one after another."""

    def __init__(self, session: Session, stack: Stack, client: GatewayClient) -> None:
        self._session = session
        self._stack = stack
        self._client = client

    def run(self, functions: tuple[Function, ...], build: bool) -> None:
        """Build, deploy and await `functions`. Raises CommandError naming the one that failed."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._session.err) as progress:
            tasks = [progress.add_task(f.name, total=1) for f in functions]
            for function, task in zip(functions, tasks, strict=True):
                if build and function.is_built:
                    self._build(function, self._reporter(progress, task, function))
                progress.update(task, description=f"{function.name}: deploying")
                self._client.deploy(function.deployment())
            for function, task in zip(functions, tasks, strict=True):
                progress.update(task, description=f"{function.name}: starting")
                self._await_ready(function)
                progress.update(task, description=f"{function.name}: ready", completed=1)

    def _build(self, function: Function, report: Callable[[str], None]) -> None:
        key = self._session.payload_secret()
        with tempfile.TemporaryDirectory(prefix="sluice-build-") as folder:
            context, tar = Path(folder) / "context", Path(folder) / "context.tar"
            make_context(self._stack, function, context)
            with tar.open("wb") as output:
                write_tar(context, function, output)
            try:
                self._client.build(tar, key, report)
            except CommandError as error:
                raise CommandError(f"{function.name}: {error}") from error

    def _reporter(
        self, progress: Progress, task: TaskID, function: Function
    ) -> Callable[[str], None]:
        def report(line: str) -> None:
            progress.update(task, description=f"{function.name}: {line[:100]}")
            if not self._session.err.is_terminal:
                self._session.err.print(f"{function.name}: {line}", markup=False)

        return report

    def _await_ready(self, function: Function) -> None:
        deadline = time.monotonic() + self._session.settings.ready_timeout
        while True:
            status = self._client.function(function.name, function.namespace)
            served = status.get("availableReplicas") or not status.get("replicas")
            if served and not status.get("reason"):
                return
            _raise_if_failed(function, status)
            if time.monotonic() > deadline:
                raise CommandError(f"{function.name}: not ready in time; see `sluice describe`")
            # The REST API has no way to wait for a change.
            time.sleep(POLL_INTERVAL)


def _raise_if_failed(function: Function, status: dict[str, Any]) -> None:
    states = [replica.get("state") for replica in status.get("replicaStates") or ()]
    reason = status.get("reason")
    if reason and "starting" not in states:
        raise CommandError(f"{function.name}: {reason}")
