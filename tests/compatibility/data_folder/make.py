"""Makes the data folder of an older release that test_data_folder.py opens.

    git worktree add /tmp/older c37b440
    cp -r tests/compatibility /tmp/older/tests/
    (cd /tmp/older && make dev && .venv/bin/python -m tests.compatibility.data_folder.make)
    (cd /tmp/older/tests && cp --parents compatibility/data_folder/d* $OLDPWD/tests)

It imports nothing of the product: the commit is what runs. The handlers below project/ are kept as
text, since they are that release's own and must not follow a rename. The passwords and keys in the
archive open nothing.
"""

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx

from testbed.platform import ROOT, LivePlatform, live_platform
from tests.compatibility.documents import documents, until

COMMIT: Final = "c37b440"
PRODUCT: Final = (
    *("gateway", "http1", "registry", "runtime", "service", "settings", "sluice"),
    *("template", "triggers"),
)
HERE: Final = Path(__file__).parent
ARCHIVE: Final = HERE / "data_folder.tar.xz"
DOCUMENTS: Final = HERE / "documents.txt"
# Of this machine, of this moment, or made again where they are missing.
LEFT_OUT: Final = frozenset({"environments", "run", "uploads", "uv-cache"})
# The same at every start, so that a claim of before is this process's own. A call that is held
# does not hold up the end.
SETTINGS: Final[Mapping[str, str]] = {
    "SLUICE_TRIGGERS_NAME": "fixture",
    "SLUICE_DRAIN_TIMEOUT": "1s",
}
# More than the gateway takes from the store ahead of their turn.
HELD: Final = 6
LARGE: Final = b"x" * 70_000  # above what the queue keeps in its rows
CSV: Final = "length,width,kind\n" + "".join(
    f"{4 + n / 10:.1f},{3 - n / 20:.2f},{'setosa' if n < 10 else 'virginica'}\n" for n in range(20)
)


def main() -> None:
    """Make the archive and the documents beside it."""
    changed = ["git", "diff", "--quiet", COMMIT, "--", *PRODUCT]
    if subprocess.run(changed, cwd=ROOT, check=False).returncode:
        sys.exit(f"the product differs from {COMMIT}: see the first lines of {__file__}")
    with tempfile.TemporaryDirectory(prefix="older-", dir="/tmp") as text:
        folder = Path(text)
        data_dir = folder / ".sluice"
        project = make_project(folder)
        with live_platform(data_dir, **SETTINGS) as platform, platform.client() as http:
            _deploy(platform, http, project)
            _call(platform, http)
            _train(http)
            _run(http)
            _hold(http)
            lines = documents(http, platform.metrics_url)
        check(data_dir)
        DOCUMENTS.write_text("".join(f"{line}\n" for line in lines))
        pack(data_dir)
    sys.stdout.write(f"{ARCHIVE.name}: {ARCHIVE.stat().st_size} bytes\n")


def make_project(folder: Path) -> Path:
    """The project as a developer has it: handlers are modules, templates stand beside them."""
    project = folder / "project"
    shutil.copytree(HERE / "project", project)
    for path in list(project.rglob("*.py.txt")):
        path.rename(path.with_suffix(""))
    shutil.copytree(ROOT / "template", project / "template")
    return project


def _deploy(platform: LivePlatform, http: httpx.Client, project: Path) -> None:
    namespace = {
        "name": "lab",
        "labels": {"team": "compatibility"},
        "annotations": {"openfaas": "1", "purpose": "a namespace of its own"},
    }
    _send(http, "POST", "/system/namespace/", namespace)
    _send(http, "POST", "/system/secrets", {"name": "gate", "value": "closed"})
    password = {"name": "password", "value": "of-the-fixture", "namespace": "lab"}
    _send(http, "POST", "/system/secrets", password)
    platform.sluice("up", "-f", "stack.yml", cwd=project)
    _send(http, "POST", "/system/scale-function/echo", {"serviceName": "echo", "replicas": 2})


def _call(platform: LivePlatform, http: httpx.Client) -> None:
    """Queue calls that end, and let the schedule of one fire until it is due on leap days only."""
    headers = {"idempotency-key": "one", "x-callback-url": f"{platform.url}/function/echo"}
    http.post("/async-function/echo?a=b", content=b"done", headers=headers).raise_for_status()
    http.post("/async-function/echo", content=b"refuse").raise_for_status()
    http.post("/async-function/echo", content=LARGE).raise_for_status()
    until(lambda: len(_list(http, "/system/calls?state=succeeded")) == 2, "calls succeed")
    until(lambda: len(_list(http, "/system/calls?state=dead")) == 1, "a call is dead")
    until(
        lambda: any(
            call.get("callbackState") == "delivered" for call in _list(http, "/system/calls")
        ),
        "its callback is delivered",
    )
    _send(http, "PUT", "/system/functions", _ticker("* * * * * *"))
    history = "/triggers/cron?function=ticker.openfaas-fn"
    until(
        lambda: any(one["state"] == "succeeded" for one in http.get(history).json()["history"]),
        "the schedule fires",
    )
    _send(http, "PUT", "/system/functions", _ticker("0 0 3 29 2 *"))
    until(
        lambda: (
            not any(one["state"] == "claimed" for one in http.get(history).json()["history"])
            and "0 0 3 29 2 *" in str(http.get("/triggers/cron").json()["schedules"])
        ),
        "the new schedule is followed",
    )


def _ticker(schedule: str) -> dict[str, Any]:
    annotations = {"topic": "cron-function", "schedule": schedule}
    return {"service": "ticker", "image": "fixture/echo:1", "annotations": annotations}


def _train(http: httpx.Client) -> None:
    """A dataset, a run with what it measured, a model of it and its alias."""
    csv = {"content-type": "text/csv"}
    http.post("/registry/datasets/iris", content=CSV, headers=csv).raise_for_status()
    model = _model()
    kept = http.post("/registry/artifacts", content=model)
    digest = kept.raise_for_status().json()["sha256"]
    if digest != hashlib.sha256(model).hexdigest():
        raise ValueError(f"the registry keeps another artifact: {digest}")
    features = {
        "dataset": "iris",
        "version": 1,
        "target": "kind",
        "task": "classification",
        "spec": {"columns": ["length", "width"]},
        "artifacts": {"rows": digest},
        "statistics": {"rows": 20},
    }
    feature_set = _send(http, "POST", "/registry/feature-sets", features)["id"]
    inputs = {"dataset": "iris", "version": 1, "feature_set": feature_set}
    opened = {"experiment": "fixture", "params": {"c": 1.5}, "tags": {"a": "b"}, "inputs": inputs}
    run = _send(http, "POST", "/registry/runs", opened, "run-of-the-fixture")["id"]
    _send(http, "POST", f"/registry/runs/{run}/params", {"seed": 7})
    _send(http, "POST", f"/registry/runs/{run}/metrics", {"accuracy": 0.95})
    _send(http, "POST", f"/registry/runs/{run}/artifacts", {"name": "model", "sha256": digest})
    _send(http, "PATCH", f"/registry/runs/{run}", {"status": "finished"})
    version = {
        "artifact": digest,
        "run": run,
        "signature": {"inputs": ["length", "width"]},
        "metrics": {"accuracy": 0.95},
        "parity": {"rows": 20},
        "dataset": "iris",
        "dataset_version": 1,
        "feature_set": feature_set,
        "framework": {"name": "scikit-learn"},
        "tags": {"made": "by the fixture"},
    }
    _send(http, "POST", "/registry/models/iris/versions", version)
    moved = {"version": 1, "expected": None, "reason": "the first"}
    _send(http, "PUT", "/registry/models/iris/aliases/champion", moved)
    seen = {
        "model": "iris",
        "version": 1,
        "function": "echo",
        "inputs": [4.0, 3.0],
        "output": "setosa",
        "latency": 0.002,
        "request_id": "one",
    }
    _send(http, "POST", "/registry/predictions", {"predictions": [seen]})


def _model() -> bytes:
    """A tiny classifier as ONNX."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - takes a second to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - likewise

    rows = [[4.0 + n / 10, 3.0 - n / 20] for n in range(20)]
    import numpy as np  # noqa: PLC0415 - likewise

    fitted = LogisticRegression().fit(rows, [int(n >= 10) for n in range(20)])
    made = to_onnx(fitted, np.array(rows[:1], dtype=np.float32), target_opset=17)
    return bytes(made.SerializeToString())


def _run(http: httpx.Client) -> None:
    """One run that ends."""
    body = {"words": ["one", "two"], "note": "of the fixture"}
    started = _send(http, "POST", "/triggers/pipelines/words/runs", body, "run-of-the-fixture")
    until(
        lambda: http.get(f"/triggers/runs/{started['run']}").json()["state"] == "succeeded",
        "the run ends",
    )


def _hold(http: httpx.Client) -> None:
    """What is under way at the end: queued calls, a pipeline's run, a fire time."""
    calls = [
        http.post("/async-function/held", content=body).raise_for_status().headers["x-call-id"]
        for body in (LARGE, *(b"held %d" % number for number in range(HELD)), b"never")
    ]
    http.delete(f"/async-function/{calls[-1]}").raise_for_status()
    until(lambda: _list(http, "/system/calls?state=running"), "a call is held")
    started = _send(http, "POST", "/triggers/pipelines/waiting/runs", {})
    until(
        lambda: (
            http.get(f"/triggers/runs/{started['run']}").json()["steps"][0]["state"] == "running"
        ),
        "a step is held",
    )
    until(
        lambda: any(
            one["state"] == "claimed"
            for one in http.get("/triggers/cron?function=held.openfaas-fn").json()["history"]
        ),
        "a fire time is claimed",
    )


def check(data_dir: Path) -> None:
    """Refuse a folder in which something that the test waits for is not under way."""
    for path, query, least in (
        ("queue/calls.sqlite", "SELECT count(*) FROM calls WHERE state = 0", HELD + 1),
        ("triggers.sqlite", "SELECT count(*) FROM cron_fire WHERE state = 'claimed'", 1),
        ("triggers.sqlite", "SELECT count(*) FROM pipeline_run WHERE state = 'running'", 1),
    ):
        with closing(sqlite3.connect(data_dir / path)) as connection:
            (found,) = connection.execute(query).fetchone()
        if found < least:
            raise ValueError(f"{path}: {query}: expected {least} at least, got {found}")


def pack(data_dir: Path) -> None:
    """Write the archive; the logs of functions are kept, those of the programs are not."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        first, second, *rest = *Path(member.name).parts[1:], "", ""
        log = first == "logs" and second.endswith(".log")
        if first in LEFT_OUT or log or (first == "runtime" and "__pycache__" in rest):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        archive.add(data_dir, arcname=data_dir.name, filter=kept)


def _list(http: httpx.Client, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(path).raise_for_status().json()
    return found


def _send(http: httpx.Client, method: str, path: str, body: Any, key: str = "") -> Any:
    headers = {"content-type": "application/json"} | ({"idempotency-key": key} if key else {})
    response = http.request(method, path, content=json.dumps(body), headers=headers)
    if response.is_error:
        raise ValueError(f"{method} {path}: {response.status_code} {response.text}")
    return response.json() if response.content else None


if __name__ == "__main__":
    main()
