"""Events of a real broker on a whole platform."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.datasets import load_wine

from sluice.cli.client import GatewayClient
from testbed.kafka import KafkaBroker, kafka_broker
from testbed.platform import ROOT, live_platform
from tests.e2e.conftest import ECHO, Stage
from tests.e2e.test_pipelines import outputs, upload

__all__ = ["kafka_broker"]
pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(900),
    # kafka-python leaves sockets to the collector when it reconnects.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket"),
]

# In order of the one partition: what was published is not worked off before anybody has looked.
SLOW = """
import asyncio

async def handle(event, context):
    await asyncio.sleep(1)
"""


@pytest.fixture(scope="module")
def events(kafka_broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A platform of its own that knows the broker."""
    folder = tmp_path_factory.mktemp("events") / ".sluice"
    with live_platform(folder, KAFKA_BOOTSTRAP=kafka_broker.bootstrap) as live:
        password = live.password_file.read_text().strip()
        with live.client() as http, GatewayClient(live.url, ("admin", password)) as api:
            yield Stage(live, http, api)


def runs(stage: Stage, *states: str, count: int = 1) -> list[dict[str, Any]]:
    """The runs of `retrain` once there are `count` in one of the states."""
    deadline = time.monotonic() + 300
    while True:
        response = stage.http.get("/triggers/runs", params={"pipeline": "retrain"})
        found = response.json() if response.status_code == 200 else []
        found = found["runs"] if isinstance(found, dict) else found
        if len([run for run in found if run["state"] in states]) >= count:
            return list(found)
        assert time.monotonic() < deadline, (response.status_code, response.text)
        time.sleep(0.1)


def test_record_wakes_a_function_from_zero(
    events: Stage, kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    kafka_broker.create("wake")
    annotations = {"topic": "wake", "com.sluice.kafka.result-topic": "woken"}
    events.serve(tmp_path, "sleeper", ECHO, annotations=annotations)
    response = events.http.post(
        "/system/scale-function/sleeper", json={"serviceName": "sleeper", "replicas": 0}
    )
    assert response.status_code in {200, 202}, response.text
    events.until("sleeper", availableReplicas=0)
    kafka_broker.publish("wake", [b'{"hello": 1}'], key=b"k")
    (woken,) = kafka_broker.read("woken", 1)
    assert (woken.key, woken.value) == (b"k", b'{"hello": 1}')


def test_lag_scales_a_function_up(events: Stage, kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    kafka_broker.create("lagging")
    kafka_broker.publish("lagging", [b"%d" % number for number in range(500)])
    labels = {
        "com.openfaas.scale.type": "queue",
        "com.openfaas.scale.target": "50",
        "com.openfaas.scale.max": "2",
    }
    events.serve(tmp_path, "lagging", SLOW, labels=labels, annotations={"topic": "lagging"})
    events.until("lagging", replicas=2)
    events.api.remove("lagging")


def test_second_process_takes_over_partitions(
    events: Stage, kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    kafka_broker.create("shared", partitions=4)
    events.serve(tmp_path, "shared", ECHO, annotations={"topic": "shared"})
    with second_process(events, tmp_path / "second.sock") as http:
        deadline = time.monotonic() + 60
        while 'sluice_kafka_records_total{function_name="shared.openfaas-fn"' not in metrics(http):
            for partition in range(4):
                kafka_broker.publish("shared", [b"1"], partition=partition)
            assert time.monotonic() < deadline


@contextmanager
def second_process(stage: Stage, address: Path) -> Iterator[httpx.Client]:
    """Another `python -m triggers` beside the platform's own; a client of its API."""
    environ = {
        **stage.platform.environ,
        "SLUICE_TRIGGERS_SOCKET": str(address),
        "SLUICE_TRIGGERS_NAME": "second",
    }
    process = subprocess.Popen([sys.executable, "-m", "triggers"], env=environ, cwd=ROOT)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(address))) as http:
            yield http
    finally:
        process.terminate()
        assert process.wait(60) == 0


def metrics(http: httpx.Client) -> str:
    try:
        return http.get("http://triggers/metrics").text
    except httpx.TransportError:  # it starts
        return ""


def test_event_retrains_on_a_new_upload_and_the_new_champion_answers_through_a_kill(
    events: Stage, kafka_broker: KafkaBroker
) -> None:
    kafka_broker.create("retrain")
    events.platform.sluice("up", "-f", "stack.yml")
    wine = load_wine()
    version = upload(events, "wine-topic", wine, 178)
    body = {"dataset": "wine-topic", "target": "label", "model": "wine-topic"}
    kafka_broker.publish("retrain", [json.dumps(body).encode(), b"not an input"])
    runs(events, "running", "succeeded")
    os.kill(events.platform.program("triggers"), signal.SIGKILL)  # its supervisor starts it again
    (run,) = runs(events, "succeeded", "failed")
    made = outputs(events.http.get(f"/triggers/runs/{run['id']}").json())
    assert made["preprocess"]["version"] == version["version"]
    champion = made["evaluate"]["champion"]
    names = [str(one).replace(" ", "_") for one in wine.feature_names]
    instance = dict(zip(names, map(float, wine.data[0]), strict=True))
    response = events.http.post(
        "/function/predict", params={"model": "wine-topic"}, json={"instances": [instance]}
    )
    assert response.status_code == 200, response.text
    assert (str(response.json()["version"]), response.json()["predictions"]) == (
        champion,
        ["class-0"],
    )
    # It is there twice where the kill came before its commit.
    letters = kafka_broker.read("sluice.dead-letter.pipeline.retrain", 1)
    assert {letter.value for letter in letters} == {b"not an input"}
