"""Commands about secrets: `sluice secret create|update|list|remove`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sluice.cli.errors import CommandError
from sluice.cli.session import Session

app = typer.Typer(help="Secrets that functions read as files.", no_args_is_help=True)
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Namespace.")]
FromFile = Annotated[Path | None, typer.Option(help="File with the value; else standard input.")]


@app.command()
def create(
    context: typer.Context, name: str, from_file: FromFile = None, namespace: Namespace = ""
) -> None:
    """Create a secret; its value never travels as an argument."""
    _write(context, "POST", name, from_file, namespace)


@app.command()
def update(
    context: typer.Context, name: str, from_file: FromFile = None, namespace: Namespace = ""
) -> None:
    """Replace a secret's value."""
    _write(context, "PUT", name, from_file, namespace)


@app.command("list")
def list_secrets(context: typer.Context, namespace: Namespace = "") -> None:
    """List the names of the secrets; values are never shown."""
    session: Session = context.obj
    with session.client() as client:
        for secret in client.secrets(namespace):
            session.out.print(secret["name"], markup=False)


@app.command()
def remove(context: typer.Context, name: str, namespace: Namespace = "") -> None:
    """Remove a secret."""
    session: Session = context.obj
    with session.client() as client:
        client.remove_secret(name, namespace)


def _write(
    context: typer.Context, method: str, name: str, file: Path | None, namespace: str
) -> None:
    session: Session = context.obj
    if file is None and sys.stdin.isatty():
        raise CommandError("give the value by --from-file or on standard input", 2)
    value = sys.stdin.buffer.read() if file is None else _content(file)
    with session.client() as client:
        client.write_secret(method, name, value, namespace)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
