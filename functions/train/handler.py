"""Trains a model on a feature set, converts it to ONNX, checks the conversion, registers a version.

POST {"feature_set", "model", "algorithm", "parameters"?, "seed"?, "experiment"?, "tags"?}. X:
float32 [rows, features], what the feature set's transformer makes of its columns; y: int64 [rows]
class codes, or float64 [rows]. Metrics: shares in [0, 1], log_loss in nats, rmse and mae in the
target's unit; those of the held-out rows by their plain name, of the training rows as train_NAME.
The data and its licence are the dataset's own.
"""

from collections.abc import Mapping
from typing import Any

from threadpoolctl import threadpool_limits

from sluice import Context, Event
from sluice.ml.featureset import FeatureSet, read_feature_set
from sluice.ml.registry import Keys, Registry
from sluice.ml.responses import Reply, respond
from sluice.ml.runtime_config import runtime_config, whole_number

from .algorithms import estimator
from .fitting import read_transformer
from .registering import fit_checked, scores, version_body
from .request import TrainRequest, read_request
from .runs import Run

REGISTRY = Registry(runtime_config())
# More only if the function has the cores to itself: OpenMP threads spin at every barrier, and on
# two busy cores a fit of 0.1 s took 18 s.
THREADS = whole_number("threads", 1)


def handle(event: Event, context: Context) -> Reply:
    """200 with version, metrics and parity; 400 naming the field; 404; 422 with the numbers where
    the ONNX model is not the pipeline; 503.
    """
    return respond(event, train)


def train(body: dict[str, Any], keys: Keys) -> Mapping[str, Any]:
    """Fit, convert, check, register. Where that fails the run fails and nothing is registered."""
    request = read_request(body)
    feature_set = read_feature_set(REGISTRY, request.feature_set)
    # Checked before the run starts, so that an unsuitable algorithm leaves no run behind.
    estimator(request.algorithm, feature_set.task, request.parameters, request.seed)
    transformer = read_transformer(REGISTRY, feature_set)
    run = Run.start(REGISTRY, keys, request, feature_set)
    with run, threadpool_limits(THREADS):
        return _trained(request, feature_set, transformer, run)


def _trained(
    request: TrainRequest, feature_set: FeatureSet, transformer: Any, run: Run
) -> Mapping[str, Any]:
    rows, held_out = feature_set.split(REGISTRY, "train"), feature_set.split(REGISTRY, "test")
    checked = fit_checked(request, feature_set, transformer, rows, held_out)
    on_train = scores(checked.converted, rows)
    metrics = scores(checked.converted, held_out)
    metrics |= {f"train_{name}": value for name, value in on_train.items()}
    artifact = REGISTRY.put_artifact(checked.converted.content)
    run.log({**metrics, "fit_seconds": checked.seconds})
    run.attach("model.onnx", artifact)
    body = version_body(request, feature_set, checked, metrics)
    registered = REGISTRY.post(
        f"/models/{request.model}/versions",
        {**body, "run": run.id, "artifact": artifact},
        run.keys.of("version"),
    )
    return {
        "model": request.model,
        "version": str(registered["version"]),
        "run": run.id,
        "algorithm": request.algorithm,
        "task": feature_set.task,
        "metrics": metrics,
        "parity": body["parity"],
        "onnx_bytes": len(checked.converted.content),
        "fit_seconds": round(checked.seconds, 3),
        "notes": list(checked.notes),
    }
