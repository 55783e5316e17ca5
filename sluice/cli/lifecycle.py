"""Commands of the platform itself: serve, up, down, prune."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.settings import GatewaySettings
from sluice.cli import platform
from sluice.cli.errors import CommandError
from sluice.cli.pipelines import post_pipelines
from sluice.cli.rollout import Rollout
from sluice.cli.session import Session
from sluice.cli.stack import find_stack, load_stack

DRAIN_MARGIN = 15.0


def serve(
    context: typer.Context,
    ready_fd: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Run gateway, registry and triggers in the foreground until SIGTERM or Ctrl-C."""
    session: Session = context.obj
    platform.serve(session.environ, ready_fd, session.settings.start_timeout)


def up(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Only these functions.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Stack file.")] = None,
    build: Annotated[bool, typer.Option(help="Build before deploying.")] = True,
) -> None:
    """Start what is not running, then build and deploy the functions of a stack file."""
    session: Session = context.obj
    stack = load_stack(find_stack(file), session.environ)
    selected = stack.select(names or [])
    if (
        not session.gateway
        and not session.settings.client.gateway
        and platform.start(session.environ)
    ):
        session.err.print(f"started {session.url}")
    with session.client() as client:
        Rollout(session, stack, client).run(selected, build)
        if not names:
            post_pipelines(session, stack, client)
    for function in selected:
        suffix = f".{function.namespace}" if function.namespace else ""
        session.out.print(f"{session.url}/function/{function.name}{suffix}", markup=False)


def down(context: typer.Context) -> None:
    """Stop the platform that runs on this data folder; calls in flight finish first."""
    session: Session = context.obj
    limit = GatewaySettings.load(session.environ).drain_timeout + DRAIN_MARGIN
    stopped = platform.end(session.settings.client.data_dir, limit)
    session.err.print("stopped" if stopped else "not running")


def prune(context: typer.Context) -> None:
    """Remove bundles and environments that no deployment uses."""
    session: Session = context.obj
    with session.client() as client:
        removed = client.prune()
    if not isinstance(removed, dict):
        raise CommandError("the gateway's response to prune is not an object")
    session.out.print_json(data=removed)
