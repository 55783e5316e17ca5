"""Scores of model versions on one feature set's held-out rows, by the files to be served."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sluice.ml.errors import ConflictError, UnprocessableError
from sluice.ml.featureset import FeatureSet
from sluice.ml.metrics import classification_scores, regression_scores
from sluice.ml.registry import Registry
from sluice.ml.session import LoadError, load_session, run_model
from sluice.ml.signature import Signature
from sluice.ml.table import Table


@dataclass(frozen=True, slots=True)
class Scored:
    """A version and its metrics on the held-out rows."""

    version: int
    metrics: Mapping[str, float]
    feature_set: str | None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out rows of a feature set."""

    feature_set: FeatureSet
    rows: Table


def score(registry: Registry, version: Mapping[str, Any], held_out: HeldOut, metric: str) -> Scored:
    """A version's metrics. Raises ConflictError where it was not made for these rows."""
    feature_set, test = held_out.feature_set, held_out.rows
    name = f"{version['name']}:{version['version']}"
    try:
        signature = Signature.from_json(version["signature"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnprocessableError(
            f"{name} has no signature that evaluate knows: {error!r}"
        ) from error
    _check_fits(name, signature, feature_set)
    try:
        session = load_session(registry.artifact(version["artifact"]))
    except LoadError as error:
        raise UnprocessableError(f"{name} does not load: {error}") from error
    predicted, probabilities = run_model(session, signature, signature.feeds(test))
    if probabilities is None:
        metrics = regression_scores(test.y, predicted)
    else:
        order = _class_order(name, signature, feature_set)
        codes = np.full(len(signature.classes), -1, dtype=np.int64)
        codes[order] = np.arange(len(order))
        metrics = classification_scores(test.y, codes[predicted], probabilities[:, order])
    if metric not in metrics:
        raise ConflictError(
            f"metric {metric!r} is not defined on the held-out rows: one class is all"
        )
    return Scored(version["version"], metrics, version["feature_set"])


def _check_fits(name: str, signature: Signature, feature_set: FeatureSet) -> None:
    if (signature.task, signature.target) != (feature_set.task, feature_set.target):
        raise ConflictError(
            f"{name} is a {signature.task} of {signature.target!r}, feature set {feature_set.id!r}"
            f" a {feature_set.task} of {feature_set.target!r}: they can not be compared"
        )
    kinds = {column.name: column for column in feature_set.columns}
    for column in signature.columns:
        found = kinds.get(column.name)
        if found is None or (found.kind == "string") != (column.kind == "string"):
            got = "it is not there" if found is None else f"it is {found.kind}"
            raise ConflictError(
                f"{name} takes column {column.name!r} ({column.kind}), in feature set"
                f" {feature_set.id!r} {got}: they can not be compared"
            )


def _class_order(name: str, signature: Signature, feature_set: FeatureSet) -> list[int]:
    """For each class code of the feature set, the model's code of that class."""
    unknown = [one for one in feature_set.classes if one not in signature.classes]
    if unknown:
        raise ConflictError(
            f"{name} does not know class {unknown[0]!r} of feature set {feature_set.id!r}"
        )
    return [signature.classes.index(one) for one in feature_set.classes]
