"""Commands about queued calls: `sluice calls list|show|result|replay|cancel|delete`."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from sluice.cli.session import Session

app = typer.Typer(help="Asynchronous calls: what waits, failed or is done.", no_args_is_help=True)


@app.command("list")
def list_calls(
    context: typer.Context,
    *,
    function: Annotated[str, typer.Option("-f", "--function", help="Only of this one.")] = "",
    state: Annotated[str, typer.Option(help="queued, running, succeeded, dead or cancelled.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    after: Annotated[str, typer.Option(help="Go on behind the call of this id.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The API's own response.")] = False,
) -> None:
    """List calls, the newest first."""
    session: Session = context.obj
    query = {"function": function, "state": state, "limit": str(limit), "after": after}
    with session.client() as client:
        calls = client.calls({key: value for key, value in query.items() if value})
    if as_json:
        session.out.print_json(data=calls)
        return
    table = Table("id", "function", "state", "attempts", "status", "accepted", "why", box=None)
    for call in calls:
        table.add_row(
            call["id"],
            call["function"],
            call["state"],
            str(call["attempts"]),
            str(call.get("status", "")),
            call["acceptedAt"],
            call.get("reason", ""),
        )
    session.out.print(table)


@app.command()
def show(context: typer.Context, call: str) -> None:
    """Show one call."""
    session: Session = context.obj
    with session.client() as client:
        session.out.print_json(data=client.call(call))


@app.command()
def result(context: typer.Context, call: str) -> None:
    """Write the function's response to standard output."""
    session: Session = context.obj
    with session.client() as client:
        sys.stdout.buffer.write(client.call_result(call))
    sys.stdout.buffer.flush()


@app.command()
def replay(context: typer.Context, calls: list[str]) -> None:
    """Queue finished calls again, dead letters for example."""
    session: Session = context.obj
    with session.client() as client:
        for call in calls:
            client.replay_call(call)
            session.err.print(f"replayed {call}", markup=False)


@app.command()
def cancel(context: typer.Context, calls: list[str]) -> None:
    """Cancel calls that wait."""
    session: Session = context.obj
    with session.client() as client:
        for call in calls:
            client.cancel_call(call)
            session.err.print(f"cancelled {call}", markup=False)


@app.command()
def delete(context: typer.Context, calls: list[str]) -> None:
    """Forget calls that do not run, and their responses."""
    session: Session = context.obj
    with session.client() as client:
        for call in calls:
            client.delete_call(call)
            session.err.print(f"deleted {call}", markup=False)
