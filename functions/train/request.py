"""What a caller asks of train."""

from dataclasses import dataclass
from typing import Any

from sluice.ml.fields import Fields

from .algorithms import ALGORITHMS, read_parameters


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """The request's fields. parameters: every one of the algorithm's. seed: of the estimator."""

    feature_set: str
    model: str
    algorithm: str
    parameters: dict[str, Any]
    seed: int
    experiment: str
    tags: dict[str, str]


def read_request(body: dict[str, Any]) -> TrainRequest:
    """The request in a JSON object. Raises InvalidInputError naming the field, expected and got."""
    fields = Fields(body)
    model = fields.name("model")
    algorithm = fields.choice("algorithm", tuple(ALGORITHMS))
    request = TrainRequest(
        feature_set=fields.id("feature_set"),
        model=model,
        algorithm=algorithm,
        parameters=read_parameters(algorithm, fields.mapping("parameters")),
        seed=fields.integer("seed", 0, 2**32 - 1, 0),
        experiment=fields.name("experiment", model),
        tags=fields.either("tags", "an object of texts", _texts, {}),
    )
    fields.done()
    return request


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
