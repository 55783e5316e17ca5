"""How fast pipelines go: 100 runs at once of ten echo steps in a row.

Every step is a call through the gateway and a commit with synchronous=FULL.
"""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx

from bench.rows import Row, at_least, observed, quantile
from bench.stage import Stage

STEPS: Final = 10
RUNS: Final = 100
ROUNDS: Final = 5
TASK_FACTORIES: Final = 8
ECHO: Final = "async def handle(event, context):\n    return event.body\n"


def run(stage: Stage) -> list[Row]:
    """Rows of the chain; medians over the rounds, a first one not counted."""
    stage.deploy("chain-echo", stage.build("chain-echo", ECHO))
    with stage.platform.client() as http:
        http.put("/triggers/pipelines", content=definitions()).raise_for_status()
        one_round(http)
        taken = [one_round(http) for _ in range(ROUNDS)]
    rates = [RUNS * STEPS / seconds for seconds, _ in taken]
    each = [seconds for _, all_ in taken for seconds in all_]
    return [
        at_least("steps, 100 runs at once", statistics.median(rates), "steps/s", 500),
        observed("steps, slowest round", min(rates), "steps/s"),
        observed("run of ten steps among 100, p50", quantile(each, 0.5), "s"),
        observed("run of ten steps among 100, p99", quantile(each, 0.99), "s"),
    ]


def definitions() -> str:
    """A chain in which every step sends on what the one before it answered."""
    steps = {
        f"s{at}": {
            "function": "chain-echo",
            "input": {"n": f"${{{{ steps.s{at - 1}.output.n }}}}" if at else "${{ input.n }}"},
        }
        for at in range(STEPS)
    }
    chain = {"inputs": {"n": {"type": "integer"}}, "steps": steps}
    return json.dumps({"pipelines": {"chain": chain}})


def one_round(http: httpx.Client) -> tuple[float, list[float]]:
    """Seconds from the first start to the last end, and seconds of each run."""

    def start(number: int) -> str:
        response = http.post("/triggers/pipelines/chain/runs", json={"n": number})
        return str(response.raise_for_status().json()["run"])

    begun = time.perf_counter()
    with ThreadPoolExecutor(TASK_FACTORIES) as task_factories:
        started = list(task_factories.map(start, range(RUNS)))
    while waiting := _open(http):
        http.get(f"/triggers/runs/{waiting}", params={"wait": "1", "revision": "x"})
        time.sleep(0.01)
    seconds = time.perf_counter() - begun
    ended = http.get("/triggers/pipelines/chain/runs", params={"limit": str(RUNS)}).json()["runs"]
    if {one["id"] for one in ended} != set(started):
        raise RuntimeError("the newest runs are not those of this round")
    if any(one["state"] != "succeeded" for one in ended):
        raise RuntimeError("a run did not succeed")
    return seconds, [one["seconds"] for one in ended]


def _open(http: httpx.Client) -> str:
    """A run that has not ended, '' when all have."""
    query = {"state": "running", "limit": "1"}
    runs = http.get("/triggers/pipelines/chain/runs", params=query).json()["runs"]
    return str(runs[0]["id"]) if runs else ""
