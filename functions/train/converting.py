"""A fitted pipeline as ONNX."""

import warnings
from collections.abc import Mapping
from typing import Any, Final

from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from sklearn.pipeline import Pipeline

from sluice.ml.errors import UnprocessableError
from sluice.ml.signature import WHOLE, Signature

# The converter's default is newer than what older runtimes load; these two give IR version 8.
TARGET_OPSET: Final[Mapping[str, int]] = {"": 18, "ai.onnx.ml": 3}
_NUMBERS: Final[Mapping[str, Any]] = {"FP32": FloatTensorType, "FP64": DoubleTensorType}


def to_onnx(pipeline: Pipeline, signature: Signature) -> bytes:
    """The whole pipeline as an ONNX model with the signature's inputs. The same fit gives the same
    bytes.

    Raises UnprocessableError where the converter can not do it.
    """
    # Without zipmap probabilities are one tensor: 75 us instead of 2427 us for 256 rows.
    options = {id(pipeline): {"zipmap": False}} if signature.task == "classification" else None
    try:
        with warnings.catch_warnings():
            # Booleans in integer fields: refused by protobuf 7, which is why it is pinned below.
            warnings.filterwarnings("ignore", "Field onnx.AttributeProto", DeprecationWarning)
            model = convert_sklearn(
                pipeline,
                name="pipeline",
                initial_types=_inputs(signature),
                target_opset=dict(TARGET_OPSET),
                options=options,
            )
    except (MissingConverter, MissingShapeCalculator, NotImplementedError, RuntimeError) as error:
        raise UnprocessableError(f"the pipeline can not be converted to ONNX: {error}") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _inputs(signature: Signature) -> list[tuple[str, Any]]:
    numbers = _NUMBERS[signature.datatype]
    if signature.single:
        return [(WHOLE, numbers([None, len(signature.columns)]))]
    return [
        (c.tensor, (StringTensorType if c.kind == "string" else numbers)([None, 1]))
        for c in signature.columns
    ]
