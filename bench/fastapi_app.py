"""The control: the same model in FastAPI, written as its documentation writes an endpoint.

`uvicorn bench.fastapi_app:app`; BENCH_MODEL: the ONNX file. POST /predict declares its body as
Pydantic models and is a plain `def`, as FastAPI asks of code that computes; POST /lean is what
remains when all that is taken away: an `async def` that reads bytes and writes bytes.
"""

import os
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

CLASSES = ("benign", "malignant")


class Rows(BaseModel):
    """What a call brings."""

    instances: list[list[float]]


class Predictions(BaseModel):
    """What a call is answered."""

    predictions: list[str]
    probabilities: list[list[float]]
    model: str
    version: str


def _session() -> ort.InferenceSession:
    """Set up as the function's own (sluice/ml/session.py)."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = os.environ["BENCH_MODEL"]
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


SESSION = _session()
app = FastAPI()


def _response(instances: list[list[float]]) -> dict[str, Any]:
    labels, probabilities = SESSION.run(None, {"X": np.array(instances, np.float32)})
    return {
        "predictions": [CLASSES[code] for code in labels.tolist()],
        "probabilities": probabilities.tolist(),
        "model": "breast-cancer",
        "version": "2",
    }


@app.post("/predict")
def predict(rows: Rows) -> Predictions:
    """Predictions of the rows."""
    return Predictions(**_response(rows.instances))


@app.post("/lean")
async def lean(request: Request) -> Response:
    """The same without models, validation and threads."""
    instances = orjson.loads(await request.body())["instances"]
    return Response(orjson.dumps(_response(instances)), media_type="application/json")
