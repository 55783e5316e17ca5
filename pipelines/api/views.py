"""Pipelines and runs as the API shows them."""

import json
from collections.abc import Mapping
from typing import Any

from pipelines.definition import Pipeline, Step
from pipelines.execution import Execution
from pipelines.records import OPEN, WHOLE, Result
from service.clock import time_text

Json = dict[str, Any]


def run_row(row: Mapping[str, Any]) -> Json:
    """A run without its steps."""
    ended, started = row["ended_at"], row["started_at"]
    return {
        "id": row["id"],
        "pipeline": row["pipeline"],
        "version": row["version"],
        "state": row["state"],
        "trigger": row["cause"],
        "key": row["key"],
        "parent": row["parent"],
        "input": json.loads(row["input"]),
        "error": row["error"],
        "created_at": time_text(row["created_at"]),
        "started_at": time_text(started),
        "ended_at": time_text(ended),
        "seconds": None if ended is None or started is None else round(ended - started, 6),
    }


def run_view(
    row: Mapping[str, Any],
    pipeline: Pipeline,
    results: list[Result],
    execution: Execution | None,
) -> Json:
    """A run with every step in its order; execution: where it is under way here."""
    by_step: dict[str, list[Result]] = {name: [] for name in pipeline.steps}
    for result in results:
        by_step.setdefault(result.step, []).append(result)
    running = execution.running if execution else {}
    open_ = row["state"] in OPEN
    steps = [
        _step(step, by_step[name], running.get(name), open_)
        for name, step in pipeline.steps.items()
    ]
    revision = f"{row['state']}-{len(results)}-{execution.revision if execution else 0}"
    return {**run_row(row), "revision": revision, "steps": steps}


def _step(step: Step, results: list[Result], running: float | None, open_: bool) -> Json:
    whole = next((one for one in results if one.item == WHOLE), None)
    items = sorted((one for one in results if one.item != WHOLE), key=lambda one: one.item)
    view: Json = {"name": step.name, "function": step.function, "needs": sorted(step.needs)}
    if whole is not None:
        view |= _result(whole)
    elif running is not None:
        view |= {"state": "running", "started_at": time_text(running)}
    else:
        view |= {"state": "waiting" if open_ else "not run"}
    if step.map is not None:
        view["items"] = [{"item": one.item, **_result(one)} for one in items]
        if whole is not None and whole.state == "succeeded":
            view["output"] = [_json(one.output) for one in items]
    return view


def _result(result: Result) -> Json:
    return {
        "state": result.state,
        "input": _json(result.input),
        "output": _json(result.output),
        "error": result.error,
        "status": result.status,
        "attempts": result.attempts,
        "started_at": time_text(result.started_at),
        "seconds": round(result.seconds, 6),
    }


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def pipeline_view(pipeline: Pipeline, version: str) -> Json:
    """A pipeline's definition, steps in the order in which they may run."""
    triggers = pipeline.triggers
    return {
        "name": pipeline.name,
        "description": pipeline.description,
        "version": version,
        "inputs": {
            name: {"type": one.type, "required": one.required, "default": one.default}
            for name, one in pipeline.inputs.items()
        },
        "steps": [
            {
                "name": step.name,
                "function": step.function,
                "needs": sorted(step.needs),
                "map": step.map is not None,
                "when": step.when.source if step.when else None,
                "timeout": step.timeout,
                "attempts": step.retry.attempts,
            }
            for step in pipeline.steps.values()
        ],
        "triggers": {
            "topics": list(triggers.topics),
            "cron": [one.text for one in triggers.schedules],
            "http": triggers.http,
        },
    }
