"""Predictions by the function `predict`, called through the gateway like any other."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from sluice.ml.errors import CallError, InvalidInputError, NotFoundError, UnavailableError
from sluice.ml.runtime_config import RuntimeConfig
from sluice.transport import Call, Transport, TransportError

SHOWN: Final = 500  # bytes of an error
ERRORS: Final[Mapping[int, type[CallError]]] = {400: InvalidInputError, 404: NotFoundError}


class Predictor:
    """Calls of predict."""

    def __init__(self, runtime_config: RuntimeConfig) -> None:
        self._transport = Transport(
            runtime_config.gateway_url.rstrip("/") + "/function", dict, 60.0
        )

    def predict(self, model: str, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """The predictions, and the probabilities of a classifier; one a row.

        Raises the error that predict returned, UnavailableError when it cannot be reached.
        """
        body = json.dumps({"instances": rows}, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        path = f"/predict?model={quote(model, safe='')}"
        try:
            response = self._transport.send(Call("POST", path, body, headers, idempotent=True))
        except TransportError as error:
            raise UnavailableError(f"cannot reach predict: {error}") from error
        if response.status != 200:
            kind = ERRORS.get(response.status, UnavailableError)
            text = response.body[:SHOWN].decode("utf-8", "replace")
            raise kind(f"predict answered {response.status}: {text}")
        result: dict[str, Any] = json.loads(response.body)
        if len(result["predictions"]) != len(rows):
            raise UnavailableError("predict answered another number of rows than it got")
        return result
