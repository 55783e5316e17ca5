"""What a caller asks of evaluate."""

from dataclasses import dataclass
from typing import Any

from sluice.ml.errors import InvalidInputError
from sluice.ml.fields import ALIAS, Fields, version_text
from sluice.ml.metrics import HIGHER_IS_BETTER


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """The request's fields. candidates: versions, none twice, or `latest`. feature_set, metric
    None: by rule.
    """

    model: str
    candidates: tuple[str, ...]
    metric: str | None
    alias: str
    feature_set: str | None


def read_request(body: dict[str, Any]) -> EvaluateRequest:
    """The request in a JSON object. Raises InvalidInputError naming the field, expected and got."""
    fields = Fields(body)
    given = fields.either(
        "candidates", "'latest' or a list of 1 to 50 versions", _candidates, "latest"
    )
    candidates = tuple(str(one) for one in (given if isinstance(given, list) else [given]))
    request = EvaluateRequest(
        model=fields.name("model"),
        candidates=candidates,
        metric=fields.choice("metric", tuple(HIGHER_IS_BETTER), None),
        alias=fields.either("alias", "a-z, 0-9 and '-', not 'latest'", _alias, "champion"),
        feature_set=fields.id("feature_set", None),
    )
    fields.done()
    if len(set(candidates)) < len(candidates):
        raise InvalidInputError(
            f"field 'candidates': a version is named twice in {list(candidates)}"
        )
    return request


def _candidates(value: object) -> bool:
    if isinstance(value, list):
        return 0 < len(value) <= 50 and all(version_text(one) for one in value)
    return version_text(value)


def _alias(value: object) -> bool:
    return isinstance(value, str) and value != "latest" and ALIAS.fullmatch(value) is not None
