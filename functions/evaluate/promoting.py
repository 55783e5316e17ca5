"""Moves an alias to a better version, if it still points where it was when that was found."""

from dataclasses import dataclass
from typing import Any

from sluice.ml.errors import ConflictError, NotFoundError
from sluice.ml.metrics import better
from sluice.ml.registry import Registry

from .request import EvaluateRequest
from .scoring import Scored


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the alias moved, from which version, and why."""

    moved: bool
    champion: int
    previous: int | None
    reason: str


def champion_version(registry: Registry, request: EvaluateRequest) -> dict[str, Any] | None:
    """The version that the alias points at; None where there is no such alias."""
    try:
        return registry.alias(request.model, request.alias).body
    except NotFoundError:
        return None


def decide(
    request: EvaluateRequest, metric: str, best: Scored, champion: Scored | None
) -> Decision:
    """The best candidate takes over if it is strictly better by the metric, or there is no
    champion.
    """
    if champion is None:
        return Decision(True, best.version, None, f"{request.model} had no {request.alias}")
    best_text = f"{metric} {best.metrics[metric]:.6g} of version {best.version}"
    against = f"{champion.metrics[metric]:.6g} of version {champion.version}"
    if best.version == champion.version:
        return Decision(
            False, champion.version, champion.version, f"{best_text} is the {request.alias}'s"
        )
    if better(metric, best.metrics[metric], champion.metrics[metric]):
        return Decision(
            True, best.version, champion.version, f"{best_text} is better than {against}"
        )
    return Decision(
        False, champion.version, champion.version, f"{best_text} is not better than {against}"
    )


def promote(registry: Registry, request: EvaluateRequest, decision: Decision) -> bool:
    """Move the alias as decided. False: another caller moved it meanwhile, so decide again."""
    move = {
        "version": decision.champion,
        "expected": decision.previous,
        "reason": decision.reason,
    }
    try:
        registry.move_alias(request.model, request.alias, move)
    except ConflictError as error:
        # The response of a first try was lost, but that try moved it.
        return error.details.get("current") == decision.champion
    return True
