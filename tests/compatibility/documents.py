"""What a platform tells of its data folder: status, place and value, one a line."""

import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx

FUNCTIONS: Final = ("batched", "echo", "held", "shell", "ticker")
ENDED: Final = ("cancelled", "dead", "succeeded")
# Keys whose values differ from one moment, process or machine to the next: their kind is told.
PASSING: Final = frozenset(
    {
        "arch",
        "availableReplicas",
        "cpu",
        "instance",
        "invocationCount",
        "isolation",
        "replica",
        "restarts",
        "revision",
        "totalMemoryBytes",
        "__metrics_path__",
    }
)
# Further keys of a run that goes on.
UNDER_WAY: Final = frozenset({"started_at"})
# Series of the interpreter and of its process: not ours.
NOT_OURS: Final = ("process_", "python_")
PATIENCE: Final = 120.0


def until(condition: Callable[[], object], what: str) -> None:
    """Ask until it is so: the API has no request that waits for this."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


def documents(http: httpx.Client, metrics_url: str) -> list[str]:
    """Every line, while the gate of the function that is held is closed."""
    _settle(http)
    pages = _Pages(http)
    _functions(pages)
    _calls(pages)
    _datasets(pages)
    _models(pages)
    _pipelines(pages)
    _discovery(pages, metrics_url)
    return sorted(set(pages.lines))


def _settle(http: httpx.Client) -> None:
    """Have every function ready and called, and the function that is held hold what it can."""
    for path in ("/system/functions?namespace=openfaas-fn", "/system/functions?namespace=lab"):
        until(functools.partial(_all_ready, http, path), f"every replica of {path} is ready")
    for name, body in (("batched", b'{"rows": [1]}'), ("echo", b"a"), ("ticker", b"a")):
        http.post(f"/function/{name}", content=body).raise_for_status()
    http.post("/function/sealed.lab", content=b"kept").raise_for_status()
    (run,) = http.get("/triggers/runs?state=running").json()["runs"]
    path = f"/triggers/runs/{run['id']}"
    until(lambda: http.get(path).json()["steps"][0]["state"] == "running", "a step is held")


def _all_ready(http: httpx.Client, path: str) -> bool:
    found = http.get(path).json()
    return all(each.get("availableReplicas", 0) == each.get("replicas", 0) for each in found)


class _Pages:
    """Reads pages and notes what they hold."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.lines: list[str] = []

    def get(self, path: str) -> Any:
        """The JSON document of a path, of which nothing is noted."""
        return self._http.get(path).raise_for_status().json()

    def read(self, path: str, passing: frozenset[str] = frozenset()) -> Any:
        """The JSON document of a path, None where it is none; all of it is noted."""
        response = self._http.get(path)
        kind = response.headers.get("content-type", "nothing")
        self.lines.append(f"{path} is {response.status_code} {kind}")
        if kind != "application/json":
            return None
        document = response.json()
        self.note(path, document, passing)
        return document

    def note(self, path: str, document: Any, passing: frozenset[str] = frozenset()) -> None:
        """Note every value of a document."""
        lines = _flat("$", document, PASSING | passing)
        self.lines += [f"{path} {line}" for line in lines]


def _functions(pages: _Pages) -> None:
    for path in ("/system/info", "/system/namespaces", "/system/namespace/lab", "/healthz"):
        pages.read(path)
    for namespace in ("openfaas-fn", "lab"):
        pages.read(f"/system/functions?namespace={namespace}")
        pages.read(f"/system/secrets?namespace={namespace}")
    replica = frozenset({"id"})
    for name in FUNCTIONS:
        pages.read(f"/system/function/{name}?usage=1", replica)
    pages.read("/system/function/sealed?namespace=lab", replica)
    # What is served without a table of routes.
    for path in ("/function/echo/_/ready", "/function/echo/_/health", "/function/absent"):
        pages.read(path)
    for path in ("/async-function/absent", "/system/function/absent", "/registry/absent"):
        pages.read(path)


def _calls(pages: _Pages) -> None:
    for state in ENDED:
        for call in pages.read(f"/system/calls?state={state}"):
            pages.read(f"/system/calls/{call['id']}")
            pages.read(f"/system/calls/{call['id']}/result")
    queued = pages.get("/system/calls?state=queued&limit=1")
    pages.note("/system/calls?state=queued", queued, frozenset(queued[0]))


def _datasets(pages: _Pages) -> None:
    pages.read("/registry/healthz")
    for dataset in pages.read("/registry/datasets")["datasets"]:
        pages.read(f"/registry/datasets/{dataset['name']}")
        pages.read(f"/registry/datasets/{dataset['name']}/versions/latest")
    for found in pages.read("/registry/feature-sets")["feature_sets"]:
        pages.read(f"/registry/feature-sets/{found['id']}")
    for run in pages.read("/registry/runs")["runs"]:
        pages.read(f"/registry/runs/{run['id']}")
        pages.read(f"/registry/runs/{run['id']}/metrics")
    pages.read("/registry/events")
    pages.read("/registry/predictions")


def _models(pages: _Pages) -> None:
    for model in pages.read("/registry/models")["models"]:
        path = f"/registry/models/{model['name']}"
        pages.read(path)
        pages.read(f"{path}/versions/latest")
        for alias in pages.read(f"{path}/aliases")["aliases"]:
            pages.read(f"{path}/aliases/{alias['alias']}")
            pages.read(f"{path}/aliases/{alias['alias']}/history")


def _pipelines(pages: _Pages) -> None:
    pages.read("/triggers/healthz")
    for pipeline in pages.read("/triggers/pipelines")["pipelines"]:
        pages.read(f"/triggers/pipelines/{pipeline['name']}")
    for state, passing in (("succeeded", frozenset[str]()), ("running", UNDER_WAY)):
        for run in pages.read(f"/triggers/runs?state={state}", passing)["runs"]:
            pages.read(f"/triggers/runs/{run['id']}", passing)
    # Its schedule is due on leap days only, so that its history stays.
    pages.read("/triggers/cron?function=ticker.openfaas-fn", frozenset({"next"}))


def _discovery(pages: _Pages, metrics_url: str) -> None:
    """Targets of Prometheus, and names and types of the series of all of them."""
    for target in httpx.get(f"{metrics_url}/sd").json():
        labels = target["labels"]
        name = labels.get("function_name", labels["instance"])
        pages.note(f"/sd of {name}", {"labels": labels, "targets": len(target["targets"])})
        page = httpx.get(f"{metrics_url}{labels['__metrics_path__']}").text
        pages.lines += [f"metrics of {name} {line}" for line in _types(page)]
    page = httpx.get(f"{metrics_url}/metrics").text
    pages.lines += [f"metrics of the gateway {line}" for line in _types(page)]


def _types(page: str) -> Iterator[str]:
    for line in page.splitlines():
        name = line.removeprefix("# TYPE ")
        # When a series began is told once it has begun.
        if name != line and not name.startswith(NOT_OURS) and "_created " not in name:
            yield name


def _flat(place: str, node: Any, passing: frozenset[str]) -> Iterator[str]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            if key in passing and not isinstance(value, dict | list):
                yield f"{place}.{key} is {type(value).__name__}"
            else:
                yield from _flat(f"{place}.{key}", value, passing)
    elif isinstance(node, list) and node:
        for number, value in enumerate(node):
            yield from _flat(f"{place}[{number}]", value, passing)
    else:
        yield f"{place} = {json.dumps(node)}"
