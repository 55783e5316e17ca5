"""Commands about pipelines: run, list, show, logs, cancel, rerun."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.table import Table

from sluice.cli.client import GatewayClient
from sluice.cli.errors import CommandError
from sluice.cli.session import Session
from sluice.cli.stack import Stack

app = typer.Typer(help="Run and follow pipelines.", no_args_is_help=True)

DEFINITIONS: Final = Path("functions/pipelines.yml")
ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
SHOWN: Final = 100  # characters of an error in a table
AsJson = Annotated[bool, typer.Option("--json", help="The API's own response.")]
Wait = Annotated[bool, typer.Option(help="Follow the run until it ends.")]


def post_pipelines(session: Session, stack: Stack, client: GatewayClient) -> None:
    """Bring functions/pipelines.yml beside the stack file, if there is one, to the gateway."""
    path = stack.folder / DEFINITIONS
    if not path.is_file():
        return
    if not client.has_triggers():
        session.err.print(f"{DEFINITIONS}: not applied, the gateway has no triggers")
        return
    for pipeline in client.put_pipelines(path.read_bytes(), str(DEFINITIONS)):
        session.err.print(f"pipeline {pipeline['name']}: {len(pipeline['steps'])} steps")


@app.command()
def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The definitions.")] = DEFINITIONS,
) -> None:
    """Replace the definitions of all pipelines by those of a file."""
    session: Session = context.obj
    try:
        source = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    with session.client() as client:
        for pipeline in client.put_pipelines(source, file.name):
            session.out.print(pipeline["name"], markup=False)


@app.command("list")
def list_(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="Only runs of this pipeline.")] = "",
    state: Annotated[str, typer.Option(help="Only runs in this state.")] = "",
    limit: Annotated[int, typer.Option(help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the pipelines and their newest runs."""
    session: Session = context.obj
    with session.client() as client:
        known = client.pipelines()
        query = {"name": pipeline, "state": state, "limit": str(limit)}
        runs = client.runs({key: value for key, value in query.items() if value})
    if as_json:
        session.out.print_json(data={"pipelines": known, "runs": runs})
        return
    session.out.print(_pipelines_table(known))
    table = Table("run", "pipeline", "state", "trigger", "created", "seconds", "error", box=None)
    for run in runs:
        table.add_row(
            run["id"],
            run["pipeline"],
            run["state"],
            run["trigger"],
            run["created_at"],
            _seconds(run["seconds"]),
            (run["error"] or "")[:SHOWN],
        )
    session.out.print(table)


@app.command()
def run(
    context: typer.Context,
    pipeline: str,
    data: Annotated[str, typer.Option("-d", "--data", help="Input as a JSON object.")] = "",
    key: Annotated[str, typer.Option(help="Idempotency key: the same key, the same run.")] = "",
    wait: Wait = True,
) -> None:
    """Start a run and follow it."""
    session: Session = context.obj
    with session.client() as client:
        started = client.start_run(pipeline, (data or "{}").encode(), key)
        session.out.print(started, markup=False)
        if wait:
            _follow(session, client, started)


@app.command()
def show(
    context: typer.Context,
    run: str,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run and its steps."""
    session: Session = context.obj
    with session.client() as client:
        if follow:
            _follow(session, client, run)
            return
        found = client.run(run)
    if as_json:
        session.out.print_json(data=found)
    else:
        session.out.print(_run_table(found))


@app.command()
def logs(
    context: typer.Context,
    run: str,
    step: Annotated[str, typer.Argument(help="Only this step.")] = "",
) -> None:
    """Write what went into each step and what came out, one JSON object a line."""
    session: Session = context.obj
    with session.client() as client:
        found = client.run(run)
    names = [one["name"] for one in found["steps"]]
    if step and step not in names:
        raise CommandError(f"run {run} has no step {step!r}; there are {', '.join(names)}")
    for line in _log_lines(found, step):
        sys.stdout.write(json.dumps(line) + "\n")


@app.command()
def cancel(context: typer.Context, run: str) -> None:
    """End a run; what it has recorded stays."""
    session: Session = context.obj
    with session.client() as client:
        session.out.print(_run_table(client.cancel_run(run)))


@app.command()
def rerun(
    context: typer.Context,
    run: str,
    step: Annotated[str, typer.Option("--from", help="First step to run again.")] = "",
    wait: Wait = True,
) -> None:
    """Start a new run that keeps the results of another one up to a step."""
    session: Session = context.obj
    with session.client() as client:
        started = client.rerun(run, step)
        session.out.print(started, markup=False)
        if wait:
            _follow(session, client, started)


def _follow(session: Session, client: GatewayClient, run: str) -> None:
    """Show the run as it changes. Raises CommandError where it does not succeed."""
    found = client.run(run)
    if session.err.is_terminal:
        with Live(_run_table(found), console=session.err) as live:
            for changed in _changes(client, found):
                found = changed
                live.update(_run_table(found))
    else:
        shown: dict[str, str] = {}
        _print_changes(session, found, shown)
        for changed in _changes(client, found):
            found = changed
            _print_changes(session, found, shown)
    if found["state"] != "succeeded":
        raise CommandError(f"run {run} {found['state']}: {found['error'] or ''}".rstrip(": "))


def _changes(client: GatewayClient, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while found["state"] not in ENDED:
        found = client.run(found["id"], found["revision"])
        yield found


def _print_changes(session: Session, found: dict[str, Any], shown: dict[str, str]) -> None:
    """Write the steps whose state is not the one in `shown`, and remember it there."""
    for step in found["steps"]:
        if shown.get(step["name"]) != step["state"] and step["state"] not in {"waiting", "not run"}:
            shown[step["name"]] = step["state"]
            line = f"{step['name']}: {step['state']} {_seconds(step.get('seconds'))}".rstrip()
            session.err.print(line, markup=False)


def _log_lines(found: dict[str, Any], step: str) -> Iterator[dict[str, Any]]:
    for one in found["steps"]:
        if step and one["name"] != step:
            continue
        items = one.pop("items", None)
        yield one
        for item in items or ():
            yield {"name": one["name"], **item}


def _pipelines_table(pipelines: list[dict[str, Any]]) -> Table:
    table = Table("pipeline", "steps", "topics", "schedules", "description", box=None)
    for one in pipelines:
        table.add_row(
            one["name"],
            str(len(one["steps"])),
            ", ".join(one["triggers"]["topics"]),
            "; ".join(one["triggers"]["cron"]),
            one["description"],
        )
    return table


def _run_table(found: dict[str, Any]) -> Table:
    title = f"{found['pipeline']} {found['id']}: {found['state']}"
    table = Table("step", "function", "state", "items", "seconds", "error", title=title, box=None)
    for step in found["steps"]:
        items = step.get("items")
        table.add_row(
            step["name"],
            step["function"],
            step["state"],
            "" if items is None else str(len(items)),
            _seconds(step.get("seconds")),
            (step.get("error") or "")[:SHOWN],
        )
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
