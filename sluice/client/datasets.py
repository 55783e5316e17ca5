"""Datasets of the registry: tables under a name, a version for each content."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sluice.client.connection import Connection, Request, segment
from sluice.client.paging import pages
from sluice.client.records import read


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset and its newest version."""

    name: str
    latest: int
    rows: int
    bytes: int
    created_at: str


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One content of a dataset. sha256, bytes: of the upload as it came.

    columns: their names, types and statistics. rejects: how many rows were not taken and why.
    """

    name: str
    version: int
    sha256: str
    rows: int
    bytes: int
    format: str
    columns: tuple[Mapping[str, Any], ...]
    rejects: Mapping[str, Any]
    notes: tuple[str, ...]
    created_at: str
    created_by: str


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """One content of a dataset in a list. columns: how many there are."""

    name: str
    version: int
    sha256: str
    rows: int
    bytes: int
    format: str
    columns: int
    created_at: str


class Datasets:
    """`client.datasets`. A version is a number or `latest`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(  # noqa: PLR0913 (each is a parameter of the API)
        self,
        name: str,
        source: bytes | Path | str,
        *,
        format: str = "",  # noqa: A002 (the API's word)
        delimiter: str = "",
        header: bool | None = None,
        max_rejects: float | None = None,
        timeout: float | None = None,
    ) -> DatasetVersion:
        """A new version, or the one that has this content already.

        source: the bytes of a CSV or Parquet file, or the path of one. format: `csv` or `parquet`,
        by default taken from a path's suffix, else csv. max_rejects: share of rows that may be
        refused.
        """
        query: dict[str, str | int | None] = {
            "format": format or _format_of(source),
            "delimiter": delimiter,
            "header": None if header is None else str(header).lower(),
            "max_rejects": None if max_rejects is None else str(max_rejects),
        }
        with ExitStack() as opened:
            body: bytes | BinaryIO = (
                source
                if isinstance(source, bytes)
                else opened.enter_context(Path(source).open("rb"))
            )
            request = Request(
                "POST",
                f"/registry/datasets/{segment(name)}",
                query,
                body,
                content_type="application/octet-stream",
                # The same content is the same version, however often it is sent.
                idempotent=True,
                timeout=timeout,
            )
            return read(DatasetVersion, self._connection.json(request, dict))

    def list(self) -> tuple[Dataset, ...]:
        """Every dataset, by name."""
        found = pages(self._connection, "/registry/datasets", "datasets", {})
        return tuple(read(Dataset, one) for one in found)

    def versions(self, name: str) -> tuple[DatasetSummary, ...]:
        """The versions of a dataset, oldest first. Raises NotFoundError."""
        path = f"/registry/datasets/{segment(name)}"
        found = pages(self._connection, path, "versions", {})
        return tuple(read(DatasetSummary, one) for one in found)

    def get(self, name: str, version: int | str = "latest") -> DatasetVersion:
        """One version with its columns. Raises NotFoundError."""
        path = f"/registry/datasets/{segment(name)}/versions/{segment(str(version))}"
        return read(DatasetVersion, self._connection.json(Request("GET", path), dict))

    def download(
        self,
        name: str,
        into: Path | str,
        version: int | str = "latest",
        format: str = "parquet",  # noqa: A002 (the API's word)
    ) -> None:
        """Write a version to the file `into`; format: parquet, csv, or original as it came."""
        path = f"/registry/datasets/{segment(name)}/versions/{segment(str(version))}/content"
        request = Request("GET", path, {"format": format})
        with Path(into).open("wb") as file:
            self._connection.request(request, file)


def _format_of(source: bytes | Path | str) -> str:
    is_parquet = not isinstance(source, bytes) and Path(source).suffix == ".parquet"
    return "parquet" if is_parquet else "csv"
