"""What a caller asks of each action."""

import re
from dataclasses import dataclass
from typing import Any, Final

from sluice.ml.errors import InvalidInputError
from sluice.ml.fields import Fields, shown, version_text

MOST_ROWS: Final = 10_000
MOST_PARTS: Final = 10_000
LARGEST: Final = 2**53
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
VERSION: Final = "a positive integer or 'latest'"


@dataclass(frozen=True, slots=True)
class Chunked:
    """chunk: rows is the length of a chunk."""

    dataset: str
    version: str
    model: str
    rows: int

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Chunked":
        """Raises InvalidInputError naming the field."""
        fields = Fields(body)
        found = cls(
            fields.name("dataset"),
            _version(fields, "version", "latest"),
            fields.name("model"),
            fields.integer("rows", 1, MOST_ROWS, 2000),
        )
        fields.done()
        return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """rows: the first `limit` ones. model_version: empty for the champion's columns."""

    dataset: str
    version: str
    model: str
    model_version: str
    limit: int

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Wanted":
        """Raises InvalidInputError naming the field."""
        fields = Fields(body)
        found = cls(
            fields.name("dataset"),
            _version(fields, "version", "latest"),
            fields.name("model"),
            _version(fields, "model_version", ""),
            fields.integer("limit", 1, 1000, 10),
        )
        fields.done()
        return found


@dataclass(frozen=True, slots=True)
class Predicted:
    """predict: `rows` rows from `offset` on."""

    dataset: str
    version: str
    model: str
    model_version: str
    offset: int
    rows: int

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Predicted":
        """Raises InvalidInputError naming the field."""
        fields = Fields(body)
        found = cls(
            fields.name("dataset"),
            _version(fields, "version", "latest"),
            fields.name("model"),
            _version(fields, "model_version", ""),
            fields.integer("offset", 0, LARGEST),
            fields.integer("rows", 1, MOST_ROWS),
        )
        fields.done()
        return found


@dataclass(frozen=True, slots=True)
class Part:
    """Predictions of one chunk. artifact: sha256."""

    artifact: str
    offset: int
    rows: int


@dataclass(frozen=True, slots=True)
class Collected:
    """collect: all parts, in any order."""

    dataset: str
    version: str
    model: str
    parts: tuple[Part, ...]

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Collected":
        """Raises InvalidInputError naming the field."""
        fields = Fields(body)
        listed = fields.either(
            "parts",
            f"a list of 1 to {MOST_PARTS} parts",
            lambda value: isinstance(value, list) and 0 < len(value) <= MOST_PARTS,
        )
        parts = tuple(_part(at, one) for at, one in enumerate(listed))
        found = cls(
            fields.name("dataset"),
            _version(fields, "version", "latest"),
            fields.name("model"),
            parts,
        )
        fields.done()
        return found


def _version(fields: Fields, name: str, default: str) -> str:
    return str(fields.either(name, VERSION, version_text, default))


def _part(at: int, value: Any) -> Part:
    if not isinstance(value, dict):
        raise InvalidInputError(f"field 'parts[{at}]': expected an object, got {shown(value)}")
    fields = Fields(value, f"parts[{at}].")
    part = Part(
        fields.either("artifact", "64 hex digits", _is_digest),
        fields.integer("offset", 0, LARGEST),
        fields.integer("rows", 0, MOST_ROWS),
    )
    fields.done()
    return part


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None
