"""onnxruntime sessions set up for small models on few cores."""

import os
from typing import Any, Final

# Before the import: since 1.29 the library starts a telemetry thread when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

try:
    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    from sluice.ml.missing import missing

    raise missing(__name__, error) from error

from sluice.ml.signature import Signature

_ERRORS_ONLY: Final = 3
LoadError: Final = (
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
)


def load_session(content: bytes) -> ort.InferenceSession:
    """A session of the ONNX model in `content`. Raises one of LoadError where it is none that runs
    here.

    One thread, no spinning: a pool that spins costs half a core while it waits. No arena: it grows
    to the largest batch and never shrinks, and trees and linear models gain nothing by it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The wheel lists another provider first.
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_model(
    session: ort.InferenceSession, signature: Signature, feeds: dict[str, NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Class codes int64 [rows] and probabilities float32 [rows, classes]; or values [rows] and
    None.
    """
    outputs = session.run(None, feeds)
    if signature.task == "regression":
        return outputs[0].reshape(-1), None
    return outputs[0], outputs[1]
