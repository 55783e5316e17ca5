"""The gateway's REST API as the command uses it: documents as they are, for `--json` and tables.

It stands on the connection of `sluice.Client`, and on its methods where no document is shown.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sluice.cli.errors import CommandError
from sluice.client import ClientError
from sluice.client.calls import Calls
from sluice.client.connection import Connection, Request, basic, segment
from sluice.client.functions import Functions
from sluice.client.pipelines import LONGEST_WAIT, MARGIN, Pipelines
from sluice.transport import Response

CHUNK: Final = 1 << 20
PRUNE_SECONDS: Final = 300.0
# The gateway ends a call by its own timeout long before.
INVOKE_SECONDS: Final = 86400.0
Query = Mapping[str, str | int | None]
Document = dict[str, Any]


class GatewayClient:
    """Calls one gateway; every failure is a ClientError with the gateway's own text."""

    def __init__(self, url: str, auth: tuple[str, str]) -> None:
        hint = "the password is not that of this gateway"
        self._connection = Connection(url, basic(*auth), hint)
        self._functions = Functions(self._connection)
        self._calls = Calls(self._connection)
        self._pipelines = Pipelines(self._connection)
        self.url = self._connection.url
        self.logs = self._functions.logs
        self.remove = self._functions.remove
        self.scale = self._functions.scale
        self.replay_call = self._calls.replay
        self.cancel_call = self._calls.cancel
        self.delete_call = self._calls.delete
        self.rerun = self._pipelines.rerun

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def functions(self, namespace: str = "") -> list[Document]:
        """All functions of a namespace."""
        return self._list("/system/functions", {"namespace": namespace})

    def function(self, name: str, namespace: str = "") -> Document:
        """One function with its replicas and usage."""
        query = {"namespace": namespace, "usage": "1"}
        return self._get(f"/system/function/{segment(name)}", query)

    def deploy(self, deployment: Mapping[str, Any]) -> bool:
        """Create or update a function; true when it was new."""
        update = Request("PUT", "/system/functions", document=deployment)
        response = self._connection.send(update)
        if response.ok:
            return False
        if response.status != 404:
            raise self._connection.refused(update, response)
        self._connection.request(Request("POST", "/system/functions", document=deployment))
        return True

    def secrets(self, namespace: str = "") -> list[Document]:
        """Names of the secrets."""
        return self._list("/system/secrets", {"namespace": namespace})

    def write_secret(self, method: str, name: str, value: bytes, namespace: str = "") -> None:
        """Create (POST) or replace (PUT) a secret."""
        body = {"name": name, "rawValue": base64.b64encode(value).decode()} | _namespace(namespace)
        self._connection.request(Request(method, "/system/secrets", document=body))

    def remove_secret(self, name: str, namespace: str = "") -> None:
        """Remove a secret."""
        body = {"name": name} | _namespace(namespace)
        self._connection.request(Request("DELETE", "/system/secrets", document=body))

    def info(self) -> Document:
        """The gateway's name, version and provider."""
        return self._get("/system/info")

    def prune(self) -> Document:
        """Remove what no deployment uses; what was removed and how many bytes that freed."""
        request = Request("POST", "/system/prune", timeout=PRUNE_SECONDS)
        return self._connection.json(request, dict)

    def has_triggers(self) -> bool:
        """Whether the gateway has a process of triggers behind it."""
        return self._connection.send(Request("GET", "/triggers/healthz")).status == 200

    def put_pipelines(self, source: bytes, file: str) -> list[Document]:
        """Replace the definitions of all pipelines; returns the pipelines."""
        request = Request("PUT", "/triggers/pipelines", {"file": file}, source)
        pipelines: list[Document] = self._connection.json(request, dict)["pipelines"]
        return pipelines

    def pipelines(self) -> list[Document]:
        """Every pipeline."""
        pipelines: list[Document] = self._get("/triggers/pipelines")["pipelines"]
        return pipelines

    def start_run(self, pipeline: str, body: bytes, key: str = "") -> str:
        """The id of a run of a pipeline. body: its input as JSON."""
        path = f"/triggers/pipelines/{segment(pipeline)}/runs"
        started = self._connection.json(Request("POST", path, body=body, key=key), dict)
        return str(started["run"])

    def runs(self, query: Query) -> list[Document]:
        """Runs of pipelines, newest first."""
        runs: list[Document] = self._get("/triggers/runs", query)["runs"]
        return runs

    def run(self, run: str, revision: str | None = None) -> Document:
        """A run with its steps; with `revision`, once it is another or 30 s have passed."""
        path = f"/triggers/runs/{segment(run)}"
        if revision is None:
            return self._get(path)
        query: Query = {"wait": f"{LONGEST_WAIT:g}", "revision": revision}
        return self._connection.json(
            Request("GET", path, query, timeout=LONGEST_WAIT + MARGIN), dict
        )

    def cancel_run(self, run: str) -> Document:
        """End a run; the run as it is then."""
        request = Request("POST", f"/triggers/runs/{segment(run)}/cancel", idempotent=True)
        return self._connection.json(request, dict)

    def invoke(self, path: str, body: bytes, content_type: str, method: str) -> Response:
        """The function's own response, whatever its status. path: with its query."""
        return self._connection.send(
            Request(
                method,
                path,
                body=body,
                content_type=content_type,
                idempotent=False,
                timeout=INVOKE_SECONDS,
            )
        )

    def calls(self, query: Query) -> list[Document]:
        """Queued calls, newest first."""
        return self._list("/system/calls", query)

    def call(self, call: str) -> Document:
        """One queued call."""
        return self._get(f"/system/calls/{segment(call)}")

    def call_result(self, call: str) -> bytes:
        """The body of the function's last response."""
        return self._calls.result(call).body

    def build(self, tar: Path, key: bytes, report: Callable[[str], None]) -> None:
        """Build a context; each log line goes to `report`. Raises CommandError when it fails."""
        headers = {
            "X-Build-Signature": f"sha256={_signature(tar, key)}",
            "Accept": "application/x-ndjson",
        }
        last: Document = {}
        with tar.open("rb") as body:
            request = Request(
                "POST",
                "/build",
                body=body,
                content_type="application/octet-stream",
                headers=headers,
            )
            try:
                with self._connection.stream(request) as stream:
                    for line in stream.lines():
                        last = json.loads(line)
                        for text in last.get("log") or ():
                            report(text)
            except ClientError as error:
                raise CommandError(str(error)) from error
        if last.get("status") != "success":
            raise CommandError(f"build failed: {last.get('error') or 'the gateway broke off'}")

    def _get(self, path: str, query: Query | None = None) -> Document:
        return self._connection.json(Request("GET", path, query or {}), dict)

    def _list(self, path: str, query: Query) -> list[Document]:
        return self._connection.json(Request("GET", path, query), list)


def _namespace(namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if namespace else {}


def _signature(tar: Path, key: bytes) -> str:
    digest = hmac.new(key, digestmod=hashlib.sha256)
    with tar.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
