"""Returns the mean and the spread of numbers: a sample to start a step from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sluice import Context, Event
from sluice.ml.errors import InvalidInputError
from sluice.ml.fields import Fields
from sluice.ml.registry import Keys
from sluice.ml.responses import Reply, respond


def handle(event: Event, context: Context) -> Reply:
    """POST {"values": [numbers]}: 200 with mean and std, 400 naming what is wrong."""
    return respond(event, describe)


def describe(body: dict[str, Any], keys: Keys) -> Mapping[str, Any]:
    """values: float64 [n], n > 0. keys: idempotency keys for calls of the registry."""
    fields = Fields(body)
    given = fields.either("values", "a list", lambda value: isinstance(value, list))
    fields.done()
    try:
        values = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError("field 'values': expected numbers") from error
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InvalidInputError("field 'values': expected at least one finite number")
    return {"mean": float(values.mean()), "std": float(values.std())}
