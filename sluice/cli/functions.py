"""Commands about functions: list, describe, invoke, logs, scale, remove."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sluice.cli.errors import CommandError
from sluice.cli.session import Session
from sluice.cli.stack import find_stack, load_stack

Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Namespace.")]


def list_functions(
    context: typer.Context,
    namespace: Namespace = "",
    as_json: Annotated[bool, typer.Option("--json", help="The API's own response.")] = False,
) -> None:
    """List the deployed functions."""
    session: Session = context.obj
    with session.client() as client:
        functions = client.functions(namespace)
    if as_json:
        session.out.print_json(data=functions)
        return
    table = Table("function", "image", "calls", "replicas", "available", box=None)
    for function in functions:
        table.add_row(
            function["name"],
            function["image"],
            f"{function.get('invocationCount', 0):.0f}",
            str(function.get("replicas", 0)),
            str(function.get("availableReplicas", 0)),
        )
    session.out.print(table)


def describe(context: typer.Context, name: str, namespace: Namespace = "") -> None:
    """Show one function: its deployment, replicas, their state and usage."""
    session: Session = context.obj
    with session.client() as client:
        session.out.print_json(data=client.function(name, namespace))


def invoke(  # noqa: PLR0913 (each is an option of the command)
    context: typer.Context,
    name: str,
    *,
    data: Annotated[str, typer.Option("-d", "--data", help="Body; else standard input.")] = "",
    content_type: Annotated[str, typer.Option(help="Type of the body.")] = "application/json",
    method: Annotated[str, typer.Option("-X", "--method", help="HTTP method.")] = "POST",
    namespace: Namespace = "",
    query: Annotated[str, typer.Option(help="Query string.")] = "",
) -> None:
    """Call a function and write its response to standard output."""
    session: Session = context.obj
    body = data.encode() if data else _standard_input()
    target = f"{name}.{namespace}" if namespace else name
    path = f"/function/{target}" + (f"?{query}" if query else "")
    with session.client() as client:
        response = client.invoke(path, body, content_type, method)
    sys.stdout.buffer.write(response.body)
    sys.stdout.buffer.flush()
    if response.status >= 400:
        raise CommandError(f"{name} answered {response.status}")


def logs(  # noqa: PLR0913 (each is an option of the command)
    context: typer.Context,
    name: str,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    tail: Annotated[int, typer.Option(help="How many of the newest; -1 for all.")] = -1,
    since: Annotated[str, typer.Option(help="Only after this time (RFC 3339).")] = "",
    instance: Annotated[str, typer.Option(help="Only this replica.")] = "",
    namespace: Namespace = "",
) -> None:
    """Show what a function wrote."""
    session: Session = context.obj
    with session.client() as client:
        lines = client.logs(
            name, follow=follow, tail=tail, since=since, instance=instance, namespace=namespace
        )
        for line in lines:
            session.out.print(f"{line.timestamp} {line.instance} {line.text}", markup=False)


def scale(context: typer.Context, name: str, replicas: int, namespace: Namespace = "") -> None:
    """Set the number of replicas of a function; 0 stops it until it is called."""
    session: Session = context.obj
    with session.client() as client:
        client.scale(name, replicas, namespace)


def remove(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument()] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Stack file.")] = None,
    namespace: Namespace = "",
) -> None:
    """Remove functions by name, or all of a stack file."""
    session: Session = context.obj
    targets = [(name, namespace) for name in names or ()]
    if file is not None:
        stack = load_stack(find_stack(file), session.environ)
        targets += [(f.name, f.namespace or namespace) for f in stack.functions]
    if not targets:
        raise CommandError("name a function or a stack file", 2)
    with session.client() as client:
        for name, space in targets:
            client.remove(name, space)
            session.err.print(f"removed {name}", markup=False)


def _standard_input() -> bytes:
    return b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
