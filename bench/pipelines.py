"""How fast pipelines go: 100 runs at once of ten echo steps in a row, on a whole platform.

`python -m bench.pipelines` starts a platform of its own and prints one JSON row a measure: name,
value, unit. Every step is a call through the gateway and a commit with synchronous=FULL.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx

from sluice.client import GatewayClient
from sluice.context import make_context, write_tar
from sluice.stack import Function, Stack
from tests.live import ROOT, LivePlatform, live_platform

STEPS: Final = 10
ECHO: Final = "async def handle(event, context):\n    return event.body\n"
STARTERS: Final = 8


def definitions() -> str:
    """A chain in which every step sends on what the one before it answered."""
    steps = {
        f"s{at}": {
            "function": "echo",
            "input": {"n": f"${{{{ steps.s{at - 1}.output.n }}}}" if at else "${{ input.n }}"},
        }
        for at in range(STEPS)
    }
    chain = {"inputs": {"n": {"type": "integer"}}, "steps": steps}
    return json.dumps({"pipelines": {"chain": chain}})


def deploy_echo(platform: LivePlatform, folder: Path) -> None:
    """Build and deploy the function `echo` and wait until it is ready."""
    handler, context, tar = folder / "handler", folder / "context", folder / "context.tar"
    handler.mkdir()
    (handler / "handler.py").write_text(ECHO)
    function = Function("echo", "bench/echo:1", lang="python3-asgi", handler=str(handler))
    make_context(Stack(ROOT / "stack.yml", "", ()), function, context)
    with tar.open("wb") as output:
        write_tar(context, function, output)
    password = platform.password_file.read_text().strip()
    with GatewayClient(platform.url, ("admin", password)) as api:
        api.build(tar, platform.payload_secret_file.read_bytes().strip(), lambda _: None)
        api.deploy({"service": "echo", "image": function.image})
        while not api.function("echo").get("availableReplicas"):
            time.sleep(0.05)


def one_round(client: httpx.Client, runs: int) -> tuple[float, list[float]]:
    """Seconds from the first start to the last end, and seconds of each run."""

    def start(number: int) -> str:
        answer = client.post("/triggers/pipelines/chain/runs", json={"n": number})
        return str(answer.raise_for_status().json()["run"])

    begun = time.perf_counter()
    with ThreadPoolExecutor(STARTERS) as starters:
        started = list(starters.map(start, range(runs)))
    while rows := _open(client):
        client.get(f"/triggers/runs/{rows[0]['id']}", params={"wait": "1", "revision": "x"})
        time.sleep(0.01)
    seconds = time.perf_counter() - begun
    query = {"limit": str(runs)}
    ended = client.get("/triggers/pipelines/chain/runs", params=query).json()["runs"]
    if {one["id"] for one in ended} != set(started):
        raise RuntimeError("the newest runs are not those of this round")
    if any(one["state"] != "succeeded" for one in ended):
        raise RuntimeError("a run did not succeed")
    return seconds, [one["seconds"] for one in ended]


def _open(client: httpx.Client) -> list[dict[str, Any]]:
    query = {"state": "running", "limit": "1"}
    rows: list[dict[str, Any]] = client.get("/triggers/pipelines/chain/runs", params=query).json()[
        "runs"
    ]
    return rows


def measure(client: httpx.Client, runs: int, rounds: int) -> Iterator[tuple[str, float, str]]:
    """Rows of name, value and unit; medians over the rounds, the first one not counted."""
    one_round(client, runs)
    taken = [one_round(client, runs) for _ in range(rounds)]
    rates = [runs * STEPS / seconds for seconds, _ in taken]
    each = sorted(seconds for _, all_ in taken for seconds in all_)
    yield "pipeline_steps_per_second", statistics.median(rates), "1/s"
    yield "pipeline_steps_per_second_lowest", min(rates), "1/s"
    yield "pipeline_run_p50", statistics.median(each), "s"
    yield "pipeline_run_p99", each[int(len(each) * 0.99) - 1], "s"


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=100, help="runs at once")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"SLUICE_TRIGGERS_RUNS_AT_ONCE": "100"}
        with live_platform(Path(folder) / ".sluice", **settings) as platform:
            deploy_echo(platform, Path(folder))
            with platform.client() as client:
                client.put("/triggers/pipelines", content=definitions()).raise_for_status()
                for name, value, unit in measure(client, given.runs, given.rounds):
                    row = {"name": name, "value": round(value, 4), "unit": unit}
                    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
