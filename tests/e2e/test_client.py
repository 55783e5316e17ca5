"""Client on a real platform, and the examples of docs/client.md as they stand there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice import Client, StatusError
from sluice.client import AuthenticationError, ConflictError, NotFoundError, WaitTimeoutError
from testbed.platform import ROOT
from tests.e2e.conftest import ECHO, Stage

PAGE = ROOT / "docs" / "client.md"
SLOW = """
import asyncio

async def handle(event, context):
    await asyncio.sleep(float(event.query.get("seconds", 0)))
    return {"statusCode": int(event.query.get("status", 200)), "body": event.body}
"""
PIPELINES = """
version: 1
pipelines:
  relay:
    inputs:
      seconds: {type: number, default: 0}
    steps:
      first:
        function: of-client
        query: {seconds: "${{ input.seconds }}"}
        input: {seconds: "${{ input.seconds }}"}
      second: {function: of-client, input: "${{ steps.first.output }}"}
"""


@pytest.fixture(scope="module")
def client(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client that finds the platform by its variables; the function `of-client` is deployed."""
    image = stage.build(tmp_path_factory.mktemp("of-client"), "of-client", SLOW)
    with Client(environ=stage.platform.environ) as made:
        made.functions.deploy("of-client", image, labels={"com.openfaas.scale.max": "3"})
        made.functions.wait_ready("of-client")
        yield made
        made.functions.remove("of-client")


def test_functions_are_listed_described_scaled_and_their_lines_read(
    client: Client, stage: Stage, tmp_path: Path
) -> None:
    image = stage.build(tmp_path, "speaks", "print('hello from the top')\n" + ECHO)
    client.functions.deploy("speaks", image, env_vars={"colour": "blue"})
    ready = client.functions.wait_ready("speaks")
    assert (ready.image, ready.env_vars["colour"]) == (image, "blue")
    assert [one.state for one in ready.replica_states] == ["ready"]
    assert "speaks" in {one.name for one in client.functions.list()}
    assert "hello from the top" in {one.text for one in client.functions.logs("speaks")}
    client.functions.scale("speaks", 0)
    stage.until("speaks", availableReplicas=0)
    client.functions.remove("speaks")
    with pytest.raises(NotFoundError, match="GET /system/function/speaks answered 404"):
        client.functions.describe("speaks")


def test_call_returns_the_response_and_raises_the_functions_own_status(client: Client) -> None:
    assert client.invoke("of-client", {"a": 1}).json() == {"a": 1}
    with pytest.raises(StatusError) as raised:
        client.calls.invoke("of-client", b"too hot", query={"status": 418})
    assert (raised.value.status, raised.value.body) == (418, b"too hot")


def test_queued_call_is_waited_for_and_its_result_read(client: Client) -> None:
    call = client.calls.submit("of-client", b"later", key="once")
    assert client.calls.submit("of-client", b"later", key="once") == call
    done = client.calls.wait(call, timeout=60)
    assert (done.state, done.status) == ("succeeded", 200)
    assert client.calls.result(call).body == b"later"
    assert call in {one.id for one in client.calls.list("of-client", state="succeeded")}
    client.calls.delete(call)
    with pytest.raises(NotFoundError):
        client.calls.get(call)


def test_wait_gives_up_in_time_and_the_call_goes_on(client: Client) -> None:
    call = client.calls.submit("of-client", b"slow", query={"seconds": 1})
    with pytest.raises(WaitTimeoutError, match=f"call {call} is "):
        client.calls.wait(call, timeout=0.05)
    assert client.calls.wait(call, timeout=60).state == "succeeded"


def test_dataset_is_uploaded_listed_and_read_back(client: Client, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("x,y\n1,a\n2,b\n")
    first = client.datasets.upload("of-client", table)
    assert (first.version, first.rows) == (1, 2)
    assert [column["type"] for column in first.columns] == ["integer", "string"]
    assert client.datasets.upload("of-client", table.read_bytes()).version == 1
    client.datasets.download("of-client", tmp_path / "table.parquet")
    second = client.datasets.upload("of-client", tmp_path / "table.parquet")
    assert (second.version, second.format, second.rows) == (2, "parquet", 2)
    assert [one.version for one in client.datasets.versions("of-client")] == [1, 2]
    assert {one.name: one.latest for one in client.datasets.list()}["of-client"] == 2
    with pytest.raises(StatusError, match="answered 400"):
        client.datasets.upload("of-client", b"")


def test_run_and_model_are_written_and_an_alias_moves_only_from_where_it_is_expected(
    client: Client,
) -> None:
    run = client.runs.start("of-client", params={"depth": 3}, tags={"kind": "test"})
    client.runs.log(run.id, {"loss": 0.5}, step=1)
    client.runs.log(run.id, {"loss": 0.25}, step=2)
    assert client.runs.finish(run.id).status == "finished"
    assert client.runs.get(run.id).metrics == {"loss": 0.25}
    assert [one.value for one in client.runs.metrics(run.id, "loss")] == [0.5, 0.25]
    assert [one.id for one in client.runs.list("of-client")] == [run.id]
    version = client.models.register("of-client", b"weights", run=run.id)
    assert client.models.download(client.models.version("of-client")) == b"weights"
    client.models.move_alias("of-client", "champion", version.version, expected=None)
    assert client.models.alias("of-client", "champion").run == run.id
    with pytest.raises(ConflictError) as raised:
        client.models.move_alias("of-client", "champion", version.version, expected=9)
    assert raised.value.details == {"current": 1}
    assert client.models.aliases("of-client") == {"champion": 1}
    assert client.models.get("of-client").aliases == {"champion": 1}
    assert [one.version for one in client.models.versions("of-client")] == [1]
    assert "of-client" in {one.name for one in client.models.list()}


def test_pipeline_is_applied_run_waited_for_and_cancelled(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "relay.yml"
    file.write_text(PIPELINES)
    assert [one.name for one in client.pipelines.apply(file)] == ["relay"]
    assert client.pipelines.get("relay").inputs["seconds"]["default"] == 0
    started = client.pipelines.run("relay", {"seconds": 0.1}, key="first")
    assert client.pipelines.run("relay", {"seconds": 0.1}, key="first") == started
    done = client.pipelines.wait(started, timeout=60)
    assert (done.state, done.step("second").output) == ("succeeded", {"seconds": 0.1})
    again = client.pipelines.rerun(started, "second")
    assert client.pipelines.wait(again, timeout=60).state == "succeeded"
    slow = client.pipelines.run("relay", {"seconds": 60})
    with pytest.raises(WaitTimeoutError, match=f"run {slow} is "):
        client.pipelines.wait(slow, timeout=0.05)
    assert client.pipelines.cancel(slow).state == "cancelled"
    assert [one.id for one in client.pipelines.runs("relay")] == [slow, again, started]


def test_wrong_password_is_refused(stage: Stage) -> None:
    with (
        Client(stage.platform.url, password="wrong", environ={}) as client,
        pytest.raises(AuthenticationError, match="not those of this gateway"),
    ):
        client.functions.list()


@pytest.mark.network
@pytest.mark.timeout(900)
def test_examples_of_the_page_run_in_their_order(stage: Stage) -> None:
    stage.platform.sluice("up", "-f", "stack.yml")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **stage.platform.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == stage.platform.url
    assert "200 {'rows': [1, 2, 3]}" in lines
    assert "succeeded {'rows': [4]}" in lines
    assert "1 3 ['petal', 'kind']" in lines
    assert any(line.startswith("succeeded [('preprocess', 'succeeded')") for line in lines)
    assert lines[-1].startswith("404 GET /registry/models/absent answered 404")
