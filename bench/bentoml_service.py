"""The control: the same model as a BentoML service. Runs in an environment of its own.

`bentoml serve bench.bentoml_service:Predict`; BENCH_MODEL: the ONNX file.
"""

import os
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import bentoml  # type: ignore[import-not-found] # not in the development environment
import numpy as np
import onnxruntime as ort

CLASSES = ("benign", "malignant")


# An access line a call would be a handicap that we do not have.
@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Predict:
    """POST /predict takes {"instances": [[...]]}."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        path = os.environ["BENCH_MODEL"]
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @bentoml.api  # type: ignore[untyped-decorator] # as above
    def predict(self, instances: list[list[float]]) -> dict[str, Any]:
        """Predictions of the rows."""
        labels, probabilities = self._session.run(None, {"X": np.array(instances, np.float32)})
        return {
            "predictions": [CLASSES[code] for code in labels.tolist()],
            "probabilities": probabilities.tolist(),
        }
