"""A run in the registry: started before the fit, ended whether or not the fit succeeds."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from sluice.ml.errors import CallError, UnavailableError
from sluice.ml.featureset import FeatureSet
from sluice.ml.registry import Keys, Registry

from .request import TrainRequest

_LOG: Final = logging.getLogger("train")


@dataclass(frozen=True, slots=True)
class Run:
    """A running run; leaving its `with` block ends it as finished or failed."""

    registry: Registry
    keys: Keys
    id: str

    @classmethod
    def start(
        cls, registry: Registry, keys: Keys, request: TrainRequest, feature_set: FeatureSet
    ) -> "Run":
        body = {
            "experiment": request.experiment,
            "params": {"algorithm": request.algorithm, "seed": request.seed, **request.parameters},
            "tags": {"model": request.model, **request.tags},
            "inputs": {
                "dataset": feature_set.dataset,
                "version": feature_set.version,
                "feature_set": feature_set.id,
            },
        }
        return cls(registry, keys, registry.post("/runs", body, keys.of("run"))["id"])

    def log(self, metrics: Mapping[str, float]) -> None:
        """Append one point a metric."""
        # A repeated call measures other durations, so its points get a key of their own.
        digest = hashlib.sha256(json.dumps(dict(metrics)).encode()).hexdigest()[:16]
        self.registry.post(f"/runs/{self.id}/metrics", metrics, self.keys.of(f"metrics/{digest}"))

    def attach(self, name: str, sha256: str) -> None:
        """Keep an artifact's sha256 with the run."""
        body = {"name": name, "sha256": sha256}
        self.registry.post(f"/runs/{self.id}/artifacts", body, self.keys.of(f"artifact/{name}"))

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.registry.update_run(self.id, "finished")
            return
        if isinstance(error, UnavailableError) and self.keys.repeatable:
            return  # the caller's next try, under the same key, continues this run
        reason = error.message if isinstance(error, CallError) else type(error).__name__
        try:
            self.registry.update_run(self.id, "failed", reason)
        except CallError as failed:
            # The caller must see what broke the run, not this.
            _LOG.warning("run=%s status=failed not recorded: %s", self.id, failed)
