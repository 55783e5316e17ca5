"""A feature set as the registry keeps it: a spec, the arrays of both splits, the fitted
transformer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.ml.errors import UnprocessableError
from sluice.ml.registry import Registry
from sluice.ml.signature import Task
from sluice.ml.table import Column, Table

FORMAT = 1


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """What preprocess left: where it came from, its columns and classes, artifacts by name
    (sha256).
    """

    id: str
    dataset: str
    version: int
    target: str
    task: Task
    columns: tuple[Column, ...]
    classes: tuple[str | int | bool, ...]
    libraries: Mapping[str, str]
    artifacts: Mapping[str, str]

    def split(self, registry: Registry, name: str) -> Table:
        """The rows of split `train` or `test`."""
        return Table.from_npz(registry.artifact(self.artifacts[name]), self.columns)


def spec_json(
    columns: tuple[Column, ...], classes: tuple[Any, ...], more: Mapping[str, Any]
) -> dict[str, Any]:
    """The spec to store: column order, kinds, categories and classes, and what else is worth
    keeping.
    """
    return {
        "format": FORMAT,
        "columns": [column.to_json() for column in columns],
        "classes": list(classes),
        **more,
    }


def read_feature_set(registry: Registry, identifier: str) -> FeatureSet:
    """The feature set of that id. Raises NotFoundError; UnprocessableError where it is of another
    form.
    """
    value = registry.feature_set(identifier)
    spec = value.get("spec")
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        raise UnprocessableError(f"feature set {identifier!r} was not made by preprocess")
    try:
        return FeatureSet(
            id=identifier,
            dataset=value["dataset"],
            version=value["version"],
            target=value["target"],
            task=value["task"],
            columns=tuple(Column.from_json(column) for column in spec["columns"]),
            classes=tuple(spec["classes"]),
            libraries=spec["libraries"],
            artifacts=value["artifacts"],
        )
    except (KeyError, TypeError) as error:
        raise UnprocessableError(f"feature set {identifier!r} lacks {error}") from error
