"""`sluice COMMAND`: the commands and the options that they share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sluice.cli import calls, functions, lifecycle, pipelines, secrets
from sluice.cli.session import Session
from sluice.cli.settings import CliSettings

app = typer.Typer(
    help="Serverless functions for machine learning.", no_args_is_help=True, add_completion=False
)
app.add_typer(secrets.app, name="secret")
app.add_typer(calls.app, name="calls")
app.add_typer(pipelines.app, name="pipeline")


@app.callback()
def options(
    context: typer.Context,
    gateway: Annotated[str, typer.Option(help="The gateway's URL.")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File with its password.")] = None,
) -> None:
    """Run functions on this machine, or talk to a gateway elsewhere."""
    context.obj = Session(CliSettings.load(os.environ), gateway, password_file)


COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "serve": lifecycle.serve,
    "up": lifecycle.up,
    "down": lifecycle.down,
    "list": functions.list_functions,
    "describe": functions.describe,
    "invoke": functions.invoke,
    "logs": functions.logs,
    "scale": functions.scale,
    "remove": functions.remove,
    "prune": lifecycle.prune,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
