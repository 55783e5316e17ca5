"""The registry's client: datasets, artifacts, feature sets, runs, models and aliases over HTTP."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from sluice.ml.errors import (
    CallError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
)
from sluice.ml.runtime_config import RuntimeConfig
from sluice.transport import RETRIED, Call, Response, Transport, TransportError

_ERRORS: Mapping[int, type[CallError]] = {
    400: InvalidInputError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    422: UnprocessableError,
}


class Keys:
    """Idempotency keys of one call: a repeated call with the caller's key repeats them, so nothing
    doubles.
    """

    def __init__(self, of_caller: str = "") -> None:
        # Hashed: any text a caller sends becomes a short key that fits a header.
        base = of_caller or uuid.uuid4().hex
        self._base = hashlib.sha256(base.encode()).hexdigest()[:32]
        self.repeatable = bool(of_caller)

    def of(self, step: str) -> str:
        return f"{self._base}/{step}"


class Seen(NamedTuple):
    """The version an alias points at. body None: unchanged since `etag`."""

    body: dict[str, Any] | None
    etag: str


class Registry:
    """Calls of the registry. Every method raises NotFoundError, ConflictError, InvalidInputError,
    UnprocessableError or TooLargeError with the registry's own text, UnavailableError when it
    cannot be reached.
    """

    def __init__(
        self, runtime_config: RuntimeConfig, timeout: float = 30.0, attempts: int = 3
    ) -> None:
        def headers() -> Mapping[str, str]:
            return {"Authorization": f"Bearer {runtime_config.registry_token()}"}

        self._transport = Transport(
            runtime_config.gateway_url.rstrip("/") + "/registry", headers, timeout, attempts
        )

    def close(self) -> None:
        self._transport.close()

    def dataset(self, name: str, version: str) -> dict[str, Any]:
        """A dataset version's name, version, sha256, rows and columns. version: a number or
        `latest`.
        """
        return self._get(f"/datasets/{_part(name)}/versions/{_part(version)}")

    def dataset_parquet(self, name: str, version: str, into: BinaryIO) -> None:
        """Write a dataset version's Parquet file to `into`."""
        path = f"/datasets/{_part(name)}/versions/{_part(version)}/content?format=parquet"
        _checked(self._send(Call("GET", path), into))

    def put_artifact(self, content: bytes) -> str:
        """Store bytes; the sha256 under which they are found."""
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {
            "Content-Type": "application/octet-stream",
            "Idempotency-Key": f"artifact/{sha256}",
        }
        response = _object(self._send(Call("POST", "/artifacts", content, headers)))
        if response.get("sha256") != sha256:
            raise UnavailableError("the registry stored other bytes than were sent")
        return sha256

    def artifact(self, sha256: str) -> bytes:
        """Bytes by their sha256, verified."""
        content = _checked(self._send(Call("GET", f"/artifacts/{_part(sha256)}"))).body
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UnavailableError(f"artifact {sha256}: the registry sent other bytes")
        return content

    def post(self, path: str, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Create something once: a repeated key returns the first response."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return _object(self._send(Call("POST", path, _dump(body), headers)))

    def update_run(self, run: str, status: str, error: str | None = None) -> None:
        """Set a run's status: `finished` or `failed` with its error."""
        body = {"status": status} if error is None else {"status": status, "error": error}
        headers = {"Content-Type": "application/json"}
        # A run ends once: the same end again changes nothing.
        call = Call("PATCH", f"/runs/{_part(run)}", _dump(body), headers, idempotent=True)
        _checked(self._send(call))

    def feature_set(self, identifier: str) -> dict[str, Any]:
        return self._get(f"/feature-sets/{_part(identifier)}")

    def model_version(self, name: str, version: str) -> dict[str, Any]:
        """A model version. version: a number or `latest`."""
        return self._get(f"/models/{_part(name)}/versions/{_part(version)}")

    def alias(self, name: str, alias: str, etag: str = "") -> Seen:
        """The model version that an alias points at, unless it is the one of `etag`."""
        headers = {"If-None-Match": etag} if etag else {}
        path = f"/models/{_part(name)}/aliases/{_part(alias)}"
        response = self._send(Call("GET", path, None, headers))
        if response.status == 304:
            return Seen(None, etag)
        return Seen(_object(response), response.headers.get("etag", ""))

    def move_alias(self, name: str, alias: str, move: Mapping[str, Any]) -> dict[str, Any]:
        """Point an alias at `version` if it points at `expected` now (None: at nothing).

        Raises ConflictError with the detail `current` where it points elsewhere.
        """
        path = f"/models/{_part(name)}/aliases/{_part(alias)}"
        headers = {"Content-Type": "application/json"}
        return _object(self._send(Call("PUT", path, _dump(move), headers)))

    def _get(self, path: str) -> dict[str, Any]:
        return _object(self._send(Call("GET", path)))

    def _send(self, call: Call, into: BinaryIO | None = None) -> Response:
        try:
            response = self._transport.send(call, into)
        except TransportError as error:
            raise UnavailableError(f"can not reach the registry: {error}") from error
        if response.status in RETRIED:
            raise UnavailableError(f"can not reach the registry: it answered {response.status}")
        return response


def _part(text: str) -> str:
    """A path segment. `.` and `..` are refused: servers and proxies would walk them."""
    if text in {"", ".", ".."}:
        raise InvalidInputError(f"expected a name, got {text!r}")
    return quote(text, safe="")


def _dump(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False).encode()


def _object(response: Response) -> dict[str, Any]:
    try:
        value = _checked(response).json()
    except ValueError as error:
        raise UnavailableError("the registry's response is not JSON") from error
    if not isinstance(value, dict):
        raise UnavailableError("the registry's response is not a JSON object")
    return value


def _checked(response: Response) -> Response:
    if 200 <= response.status < 300:
        return response
    if response.status in {401, 403}:
        raise UnavailableError("the registry refused this function's token")
    kind = _ERRORS.get(response.status, UnavailableError)
    details = _details(response.body)
    message = details.pop("error", None) or details.pop("detail", None)
    text = message if isinstance(message, str) else json.dumps(message)
    if not message:
        text = f"the registry answered {response.status}"
    raise kind(text, **{name: value for name, value in details.items() if name == "current"})


def _details(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
