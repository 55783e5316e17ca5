"""Models of the registry: versions and the aliases that point at them."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sluice.client.connection import Connection, Request, segment
from sluice.client.errors import ClientError
from sluice.client.paging import pages
from sluice.client.records import read

ANYWHERE: Final[Any] = object()


@dataclass(frozen=True, slots=True)
class Model:
    """A model, its newest version, and the version of each alias."""

    name: str
    latest: int
    aliases: Mapping[str, int]
    created_at: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version. artifact: the sha256 of its file, for `download`.

    alias: the one by which it was asked for, empty otherwise.
    """

    name: str
    version: int
    artifact: str
    run: str | None = None
    signature: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    dataset_version: int | None = None
    feature_set: str | None = None
    framework: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    created_by: str = ""
    alias: str = ""


class Models:
    """`client.models`. A version is a number or `latest`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> tuple[Model, ...]:
        """Every model, by name."""
        found = pages(self._connection, "/registry/models", "models", {})
        return tuple(read(Model, one) for one in found)

    def get(self, name: str) -> Model:
        """One model. Raises NotFoundError."""
        path = f"/registry/models/{segment(name)}"
        return read(Model, self._connection.json(Request("GET", path, {"limit": 1}), dict))

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """The versions of a model, oldest first. Raises NotFoundError."""
        path = f"/registry/models/{segment(name)}"
        found = pages(self._connection, path, "versions", {})
        return tuple(read(ModelVersion, one) for one in found)

    def version(self, name: str, version: int | str = "latest") -> ModelVersion:
        """One version. Raises NotFoundError."""
        path = f"/registry/models/{segment(name)}/versions/{segment(str(version))}"
        return read(ModelVersion, self._connection.json(Request("GET", path), dict))

    def alias(self, name: str, alias: str) -> ModelVersion:
        """The version that an alias points at, such as `champion`. Raises NotFoundError."""
        path = f"/registry/models/{segment(name)}/aliases/{segment(alias)}"
        return read(ModelVersion, self._connection.json(Request("GET", path), dict))

    def aliases(self, name: str) -> dict[str, int]:
        """The version of each alias."""
        path = f"/registry/models/{segment(name)}/aliases"
        found = pages(self._connection, path, "aliases", {})
        return {one["alias"]: one["version"] for one in found}

    def move_alias(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        expected: int | None = ANYWHERE,
        reason: str = "",
    ) -> None:
        """Point an alias at a version.

        expected: the version it must point at now, None for an alias that is not there yet; left
        out, wherever it points. Raises ConflictError with `details["current"]` where it does not.
        """
        document: dict[str, Any] = {"version": version, "reason": reason}
        if expected is not ANYWHERE:
            document["expected"] = expected
        path = f"/registry/models/{segment(name)}/aliases/{segment(alias)}"
        request = Request("PUT", path, document=document, key=uuid.uuid4().hex)
        self._connection.request(request)

    def register(
        self,
        name: str,
        content: bytes | Path | str,
        *,
        run: str | None = None,
        metrics: Mapping[str, float] | None = None,
        **more: Any,
    ) -> ModelVersion:
        """A new version of a model, whose file is `content` or lies at that path.

        run: the training run that made it. more: `signature`, `parity`, `dataset`,
        `dataset_version`, `feature_set`, `framework`, `tags`, as docs/registry.md describes them.
        """
        data = content if isinstance(content, bytes) else Path(content).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        self._connection.request(
            Request(
                "POST",
                "/registry/artifacts",
                body=data,
                content_type="application/octet-stream",
                key=f"artifact/{sha256}",
                headers={"X-Content-SHA256": sha256},
            )
        )
        document = {**more, "artifact": sha256, "run": run, "metrics": dict(metrics or {})}
        path = f"/registry/models/{segment(name)}/versions"
        request = Request("POST", path, document=document, key=uuid.uuid4().hex)
        return read(ModelVersion, self._connection.json(request, dict))

    def download(self, version: ModelVersion) -> bytes:
        """The file of a version, its sha256 verified."""
        path = f"/registry/artifacts/{segment(version.artifact)}"
        content = self._connection.request(Request("GET", path)).body
        if hashlib.sha256(content).hexdigest() != version.artifact:
            raise ClientError(f"artifact {version.artifact}: the gateway sent other bytes")
        return content
