"""Compares candidate versions with the champion on held-out rows and moves the alias to a better
one.

POST {"model", "candidates"?: [versions] | "latest", "metric"?, "alias"?, "feature_set"?}. X:
float32 [rows, columns] of the feature set's held-out split; y: int64 [rows] class codes, or float64
[rows]. Metrics: shares in [0, 1], log_loss in nats, rmse and mae in the target's unit. The rows are
those the feature set's seed held out; the data and its licence are the dataset's own.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from sluice import Context, Event
from sluice.ml.errors import ConflictError, InvalidInputError
from sluice.ml.featureset import FeatureSet, read_feature_set
from sluice.ml.metrics import HIGHER_IS_BETTER, default_metric
from sluice.ml.registry import Keys, Registry
from sluice.ml.responses import Reply, respond
from sluice.ml.runtime_config import runtime_config

from .promoting import Decision, champion_version, decide, promote
from .request import EvaluateRequest, read_request
from .scoring import HeldOut, Scored, score

ATTEMPTS: Final = 5
REGISTRY = Registry(runtime_config())


def handle(event: Event, context: Context) -> Reply:
    """200 with the table and the decision; 400 naming the field; 404; 409 where versions can not be
    compared; 503.
    """
    return respond(event, evaluate)


def evaluate(body: dict[str, Any], keys: Keys) -> Mapping[str, Any]:
    """Score, decide, move; again with the new champion where another moved the alias meanwhile."""
    request = read_request(body)
    versions = [REGISTRY.model_version(request.model, one) for one in request.candidates]
    feature_set = read_feature_set(REGISTRY, _feature_set_of(request, versions))
    metric = _metric(request, feature_set)
    held_out = HeldOut(feature_set, feature_set.split(REGISTRY, "test"))
    scored = {one["version"]: score(REGISTRY, one, held_out, metric) for one in versions}
    best = _best(metric, list(scored.values()))
    for _ in range(ATTEMPTS):
        current = champion_version(REGISTRY, request)
        champion = None
        if current is not None:
            known = scored.get(current["version"])
            champion = known or score(REGISTRY, current, held_out, metric)
        decision = decide(request, metric, best, champion)
        if not decision.moved or promote(REGISTRY, request, decision):
            return _report(
                request, metric, feature_set, {**scored, **_by_version(champion)}, decision
            )
    raise ConflictError(
        f"alias {request.alias!r} of {request.model!r} moved {ATTEMPTS} times meanwhile"
    )


def _feature_set_of(request: EvaluateRequest, versions: list[dict[str, Any]]) -> str:
    """The requested feature set, or the one all candidates were trained on."""
    if request.feature_set is not None:
        return request.feature_set
    found = {str(one["feature_set"]) for one in versions if one.get("feature_set")}
    if len(found) != 1:
        raise InvalidInputError(
            "field 'feature_set': expected one, since the candidates were trained on"
            f" {len(found)} different ones"
        )
    return found.pop()


def _metric(request: EvaluateRequest, feature_set: FeatureSet) -> str:
    """The requested metric, or the task's default. Raises InvalidInputError for another task's."""
    default = default_metric(feature_set.task, len(feature_set.classes))
    metric = request.metric or default
    if (metric in {"rmse", "mae", "r2"}) != (feature_set.task == "regression"):
        raise InvalidInputError(
            f"field 'metric': {metric!r} is not for a {feature_set.task}; default {default!r}"
        )
    return metric


def _best(metric: str, scored: list[Scored]) -> Scored:
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    return max(scored, key=lambda one: sign * one.metrics[metric])


def _by_version(champion: Scored | None) -> dict[int, Scored]:
    return {} if champion is None else {champion.version: champion}


def _report(
    request: EvaluateRequest,
    metric: str,
    feature_set: FeatureSet,
    scored: Mapping[int, Scored],
    decision: Decision,
) -> dict[str, Any]:
    notes = [
        f"version {one.version} was trained on feature set {one.feature_set}:"
        " it may have seen these rows"
        for one in scored.values()
        if one.feature_set != feature_set.id
    ]
    return {
        "model": request.model,
        "alias": request.alias,
        "metric": metric,
        "higher_is_better": HIGHER_IS_BETTER[metric],
        "feature_set": feature_set.id,
        "table": [
            {"version": str(one.version), "metrics": dict(one.metrics)}
            for _, one in sorted(scored.items())
        ],
        **asdict(decision),
        "champion": str(decision.champion),
        "previous": None if decision.previous is None else str(decision.previous),
        "notes": notes,
    }
