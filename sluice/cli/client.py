"""The gateway's REST API as the command uses it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

from sluice.cli.errors import CommandError
from sluice.cli.transport import Transport, check

CHUNK: Final = 1 << 20


class GatewayClient:
    """Calls one gateway; every failure is a CommandError with the gateway's own text."""

    def __init__(self, url: str, auth: tuple[str, str] | None) -> None:
        self.url = url.rstrip("/")
        self._http = Transport(self.url, auth)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def functions(self, namespace: str = "") -> list[dict[str, Any]]:
        """All functions of a namespace."""
        document: list[dict[str, Any]] = self._http.request(
            "GET", "/system/functions", params=_namespace(namespace)
        ).json()
        return document

    def function(self, name: str, namespace: str = "") -> dict[str, Any]:
        """One function with its replicas and usage."""
        document: dict[str, Any] = self._http.request(
            "GET", f"/system/function/{name}", params=_namespace(namespace) | {"usage": "1"}
        ).json()
        return document

    def deploy(self, deployment: Mapping[str, Any]) -> bool:
        """Create or update a function; true when it was new."""
        response = self._http.send("PUT", "/system/functions", json=deployment)
        if response.status_code != 404:
            check(response)
            return False
        self._http.request("POST", "/system/functions", json=deployment)
        return True

    def remove(self, name: str, namespace: str = "") -> None:
        """Remove a function."""
        body = {"functionName": name} | _namespace(namespace)
        self._http.request("DELETE", "/system/functions", json=body)

    def scale(self, name: str, replicas: int, namespace: str = "") -> None:
        """Set the number of replicas."""
        body = {"serviceName": name, "replicas": replicas} | _namespace(namespace)
        self._http.request(
            "POST", f"/system/scale-function/{name}", json=body, params=_namespace(namespace)
        )

    def secrets(self, namespace: str = "") -> list[dict[str, Any]]:
        """Names of the secrets."""
        document: list[dict[str, Any]] = self._http.request(
            "GET", "/system/secrets", params=_namespace(namespace)
        ).json()
        return document

    def write_secret(self, method: str, name: str, value: bytes, namespace: str = "") -> None:
        """Create (POST) or replace (PUT) a secret."""
        body = {"name": name, "rawValue": base64.b64encode(value).decode()} | _namespace(namespace)
        self._http.request(method, "/system/secrets", json=body)

    def remove_secret(self, name: str, namespace: str = "") -> None:
        """Remove a secret."""
        self._http.request("DELETE", "/system/secrets", json={"name": name} | _namespace(namespace))

    def info(self) -> dict[str, Any]:
        """What the gateway says of itself."""
        document: dict[str, Any] = self._http.request("GET", "/system/info").json()
        return document

    def prune(self) -> dict[str, Any]:
        """Remove what no deployment uses; what went and how many bytes that freed."""
        document: dict[str, Any] = self._http.request("POST", "/system/prune", timeout=300.0).json()
        return document

    def has_triggers(self) -> bool:
        """Whether the gateway has a process of triggers behind it."""
        return self._http.send("GET", "/triggers/healthz").status_code == 200

    def put_pipelines(self, source: bytes, file: str) -> list[dict[str, Any]]:
        """Replace the definitions of all pipelines; returns the pipelines."""
        document = self._http.request(
            "PUT", "/triggers/pipelines", params={"file": file}, content=source
        ).json()
        pipelines: list[dict[str, Any]] = document["pipelines"]
        return pipelines

    def pipelines(self) -> list[dict[str, Any]]:
        """Every pipeline."""
        document: list[dict[str, Any]] = self._http.request("GET", "/triggers/pipelines").json()[
            "pipelines"
        ]
        return document

    def start_run(self, pipeline: str, body: bytes, key: str = "") -> str:
        """The id of a run of a pipeline."""
        headers = {"idempotency-key": key} if key else {}
        path = f"/triggers/pipelines/{quote(pipeline, safe='')}/runs"
        document: str = self._http.request("POST", path, content=body, headers=headers).json()[
            "run"
        ]
        return document

    def runs(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Runs of pipelines, newest first."""
        found: list[dict[str, Any]] = self._http.request(
            "GET", "/triggers/runs", params=dict(query)
        ).json()["runs"]
        return found

    def run(self, run: str, revision: str | None = None) -> dict[str, Any]:
        """A run with its steps; with `revision`, once it is another or 30 s have passed."""
        query = {} if revision is None else {"wait": "30", "revision": revision}
        document: dict[str, Any] = self._http.request(
            "GET", f"/triggers/runs/{quote(run, safe='')}", params=query
        ).json()
        return document

    def cancel_run(self, run: str) -> dict[str, Any]:
        """End a run; the run as it is then."""
        document: dict[str, Any] = self._http.request(
            "POST", f"/triggers/runs/{quote(run, safe='')}/cancel"
        ).json()
        return document

    def rerun(self, run: str, step: str) -> str:
        """The id of a new run that goes on from a step of another one."""
        params = {"from": step} if step else {}
        document: str = self._http.request(
            "POST", f"/triggers/runs/{quote(run, safe='')}/rerun", params=params
        ).json()["run"]
        return document

    def invoke(self, path: str, body: bytes, content_type: str, method: str) -> httpx.Response:
        """The function's own answer, whatever its status."""
        return self._http.send(
            method,
            path,
            content=body,
            headers={"content-type": content_type},
            timeout=httpx.Timeout(None, connect=5.0),
        )

    def calls(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Queued calls, newest first."""
        document: list[dict[str, Any]] = self._http.request(
            "GET", "/system/calls", params=dict(query)
        ).json()
        return document

    def call(self, call: str) -> dict[str, Any]:
        """One queued call."""
        document: dict[str, Any] = self._http.request("GET", f"/system/calls/{quote(call)}").json()
        return document

    def call_result(self, call: str) -> bytes:
        """The body that the function answered."""
        return self._http.request("GET", f"/system/calls/{quote(call)}/result").content

    def replay_call(self, call: str) -> None:
        """Queue a finished call again."""
        self._http.request("POST", f"/system/calls/{quote(call)}/replay")

    def cancel_call(self, call: str) -> None:
        """Cancel a call that waits."""
        self._http.request("DELETE", f"/async-function/{quote(call)}")

    def delete_call(self, call: str) -> None:
        """Forget a call and its answer."""
        self._http.request("DELETE", f"/system/calls/{quote(call)}")

    @contextmanager
    def logs(self, query: Mapping[str, str]) -> Iterator[Iterator[dict[str, Any]]]:
        """Log lines as objects, as they come."""
        with self._http.stream("GET", "/system/logs", params=dict(query)) as response:
            yield (json.loads(line) for line in response.iter_lines() if line)

    def build(self, tar: Path, key: bytes, report: Callable[[str], None]) -> None:
        """Build a context; each log line goes to `report`. Raises CommandError when it fails."""
        headers = {
            "x-build-signature": f"sha256={_signature(tar, key)}",
            "content-type": "application/octet-stream",
            "content-length": str(tar.stat().st_size),
            "accept": "application/x-ndjson",
        }
        last: dict[str, Any] = {}
        with self._http.stream("POST", "/build", content=_chunks(tar), headers=headers) as response:
            for line in response.iter_lines():
                last = json.loads(line) if line else last
                for text in last.get("log") or ():
                    report(text)
        if last.get("status") != "success":
            raise CommandError(f"build failed: {last.get('error') or 'the gateway broke off'}")


def _namespace(namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if namespace else {}


def _signature(tar: Path, key: bytes) -> str:
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for chunk in _chunks(tar):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
