"""Makes a feature set of a dataset version: chosen columns, a split, a fitted transformer.

POST {"dataset", "version"?, "target", "task"?, "test_size"?, "seed"?, "columns"?, "drop"?,
"max_categories"?}. The data and its licence are the dataset's own; nothing here is made for one
dataset.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from sluice import Context, Event
from sluice.ml.featureset import spec_json
from sluice.ml.registry import Keys, Registry
from sluice.ml.responses import Reply, respond
from sluice.ml.runtime_config import runtime_config, whole_number
from sluice.ml.table import Table

from .loading import Loaded, load
from .request import PreprocessRequest, read_request
from .splitting import split
from .statistics import statistics
from .transforming import fit_transformer

MAX_CELLS = whole_number("max_cells", 20_000_000)
REGISTRY = Registry(runtime_config())


def handle(event: Event, context: Context) -> Reply:
    """200 with the feature set's id, rows, columns and notes; 400 naming field or column; 404, 413,
    503.
    """
    return respond(event, preprocess)


def preprocess(body: dict[str, Any], keys: Keys) -> Mapping[str, Any]:
    """Load, split, fit, store. The same request on the same version gives the same arrays."""
    request = read_request(body)
    loaded = load(REGISTRY, request, MAX_CELLS)
    train, test = split(loaded, request)
    record = {
        "dataset": request.dataset,
        "version": loaded.version,
        "target": request.target,
        "task": loaded.target.task,
        "spec": _spec(request, loaded),
        "artifacts": {
            "train": REGISTRY.put_artifact(train.to_npz()),
            "test": REGISTRY.put_artifact(test.to_npz()),
            "transformer": REGISTRY.put_artifact(fit_transformer(train)),
        },
        "statistics": statistics(train),
    }
    feature_set = REGISTRY.post("/feature-sets", record, keys.of("feature-set"))
    return {"feature_set": feature_set["id"], **_report(request, loaded, train, test)}


def _spec(request: PreprocessRequest, loaded: Loaded) -> dict[str, Any]:
    names = ("scikit-learn", "numpy", "joblib")
    # They decide whether the pickled transformer can be read again.
    libraries = {"python": platform.python_version()} | {name: version(name) for name in names}
    more = {
        "dropped": [asdict(dropped) for dropped in loaded.dropped],
        "test_size": request.test_size,
        "seed": request.seed,
        "libraries": libraries,
    }
    return spec_json(loaded.table.columns, loaded.target.classes, more)


def _report(
    request: PreprocessRequest, loaded: Loaded, train: Table, test: Table
) -> dict[str, Any]:
    return {
        "dataset": request.dataset,
        "version": loaded.version,
        "target": request.target,
        "task": loaded.target.task,
        "task_reason": loaded.target.reason,
        "classes": list(loaded.target.classes),
        "rows": {"train": len(train), "test": len(test)},
        "columns": [
            {"name": c.name, "kind": c.kind, "missing": c.missing} for c in loaded.table.columns
        ],
        "dropped": [asdict(dropped) for dropped in loaded.dropped],
        "notes": list(loaded.notes),
    }
