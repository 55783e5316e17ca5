"""Micro-batching of a scikit-learn forest: the same handler with `@batch` and without."""

import json
from typing import Final

from bench.rows import Row, ratio_at_least, ratio_at_most
from bench.slices import LoadTarget, interleave
from bench.stage import Stage
from bench.suites.calls import body_of_row
from bench.wrk import WrkRequest

REQUIREMENTS: Final = "scikit-learn>=1.6,<2\n"
ROUNDS: Final = 3
LONE_ROUNDS: Final = 8
CONNECTIONS: Final = 64
FOREST: Final = """
import json
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

def init():
    data = load_breast_cancer()
    globals()["FOREST"] = RandomForestClassifier(100, random_state=7).fit(data.data, data.target)

def forest(rows):
    return FOREST.predict_proba(np.array(rows)).tolist()
"""
ALONE: Final = (
    FOREST
    + """
def handle(event, context):
    return {"probabilities": forest(event.json()["instances"])}
"""
)
TOGETHER: Final = (
    FOREST
    + """
from sluice import batch

score = batch(max_rows=256, latency="200ms")(forest)

async def handle(event, context):
    return {"probabilities": await score(event.json()["instances"], deadline=context.deadline)}
"""
)


def run(stage: Stage) -> list[Row]:
    """Rows of throughput in a crowd, and of what a lone caller pays."""
    for name, source in (("alone", ALONE), ("together", TOGETHER)):
        stage.log(f"building and starting {name}")
        stage.deploy(name, stage.build(name, source, REQUIREMENTS, lang="python3-ml"))
    request = WrkRequest.write(stage.folder / "batch.lua", [json.dumps(json.loads(body_of_row()))])
    targets = {name: LoadTarget(stage.calls(name), request) for name in ("together", "alone")}
    stage.log("crowd")
    crowd = interleave(targets, CONNECTIONS, ROUNDS, seconds=2)
    stage.log("lone caller")
    lone = interleave(targets, 1, LONE_ROUNDS)
    for name in targets:
        stage.api.remove(name)
    together, alone = crowd["together"], crowd["alone"]
    return [
        ratio_at_least(
            f"scikit-learn forest, {CONNECTIONS} connections, batching on against off",
            list(zip(together.rates, alone.rates, strict=True)),
            "calls/s",
            20,
        ),
        ratio_at_most(
            "scikit-learn forest, lone caller's p50, batching on against off",
            list(zip(lone["together"].p50, lone["alone"].p50, strict=True)),
            "ms",
            1.05,
        ),
    ]
