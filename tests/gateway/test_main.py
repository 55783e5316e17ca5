"""The program as an operator starts it: real processes of the embedded provider."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.auth.credentials import read

READY = re.compile(r"ready api=127\.0\.0\.1:(\d+) metrics_port=(\d+)")
PATIENCE = 60.0
CAT = {"service": "cat", "image": "none:1", "envProcess": "cat"}


@dataclass
class Program:
    """A running `python -m gateway`."""

    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    metrics: str
    said: list[str]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def measures(self, sample: str) -> None:
        """Returns when the metrics hold the line `sample`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if sample in (await self.client.get(f"{self.metrics}/metrics")).text:
                    return
                await asyncio.sleep(0.02)

    async def ready(self, name: str, replicas: int = 1) -> None:
        """Returns when so many replicas are ready, as a client sees it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = (await self.client.get(f"/system/function/{name}")).json()
                if found.get("availableReplicas", 0) == replicas:
                    return
                await asyncio.sleep(0.05)


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    ports = {"SLUICE_PORT": "0", "SLUICE_METRICS_PORT": "0", "SLUICE_DRAIN_TIMEOUT": "30s"}
    return {**kept, **ports, "SLUICE_DATA_DIR": str(folder / "data"), **more}


@asynccontextmanager
async def program(folder: Path, **more: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        env=environment(folder, **more),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for line in process.stderr:
            said.append(line.decode())
            if found := READY.search(said[-1]):
                break
        else:
            pytest.fail("it did not start: " + "".join(said))
    drained = asyncio.ensure_future(_drain(process.stderr, said))
    credentials = read(folder / "data" / "secrets")
    login = (credentials.user.decode(), credentials.password.decode())
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{found[1]}", auth=login, timeout=PATIENCE
    ) as client:
        yield Program(process, client, f"http://127.0.0.1:{found[2]}", said)
    if process.returncode is None:
        process.kill()
        await process.wait()
    await drained


async def _drain(stream: asyncio.StreamReader, said: list[str]) -> None:
    async for line in stream:
        said.append(line.decode())


async def test_program_deploys_calls_scales_and_comes_back(tmp_path: Path) -> None:
    async with program(tmp_path) as first:
        client = first.client
        assert (await client.get("/healthz", auth=httpx.Auth())).status_code == 200
        info = (await client.get("/system/info")).json()
        assert info["provider"]["provider"] == "sluice-embedded"
        assert re.match("namespaces|none: ", info["isolation"])
        deployed = await client.post("/system/functions", json=CAT)
        assert deployed.status_code == 202, deployed.text
        response = await client.post("/function/cat", content=b"hello", auth=httpx.Auth())
        assert (response.status_code, response.content) == (200, b"hello")
        (listed,) = (await client.get("/system/functions")).json()
        assert listed["invocationCount"] == 1.0
        metrics = (await client.get(f"{first.metrics}/metrics")).text
        assert (
            'gateway_function_invocation_total{code="200",function_name="cat.openfaas-fn"} 1.0'
            in metrics
        )
        (target,) = (await client.get(f"{first.metrics}/sd")).json()
        path = target["labels"]["__metrics_path__"]
        replica = await client.get(f"{first.metrics}{path}")
        assert replica.status_code == 200, replica.text
        assert "http_requests_total" in replica.text
        lines = (await client.get("/system/logs?name=cat&tail=50")).text.splitlines()
        assert lines, "a replica writes what it does"
        assert {json.loads(line)["name"] for line in lines} == {"cat"}
        zero = {"replicas": 0}
        assert (await client.post("/system/scale-function/cat", json=zero)).status_code == 202
        await first.ready("cat", 0)
        woken = await client.post("/function/cat", content=b"again", auth=httpx.Auth())
        assert (woken.status_code, woken.content) == (200, b"again")
        assert await first.stop() == 0
    async with program(tmp_path) as second:
        found = (await second.client.get("/system/functions")).json()
        assert [function["name"] for function in found] == ["cat"]
        response = await second.client.post("/function/cat", content=b"still", auth=httpx.Auth())
        assert (response.status_code, response.content) == (200, b"still")
        assert await second.stop(signal.SIGINT) == 0


async def test_program_answers_the_call_under_way_when_told_to_stop(tmp_path: Path) -> None:
    slow = {**CAT, "service": "slow", "envProcess": "sleep 1"}
    async with program(tmp_path) as running:
        assert (await running.client.post("/system/functions", json=slow)).status_code == 202
        await running.ready("slow")
        call = asyncio.ensure_future(running.client.post("/function/slow", auth=httpx.Auth()))
        await running.measures('sluice_calls_in_flight{function_name="slow.openfaas-fn"} 1.0')
        assert await running.stop() == 0
        assert (await call).status_code == 200


async def test_program_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    slow = {**CAT, "service": "slow", "envProcess": "sleep 60"}
    async with program(tmp_path, SLUICE_DRAIN_TIMEOUT="60s") as running:
        await running.client.post("/system/functions", json=slow)
        await running.ready("slow")
        call = asyncio.ensure_future(running.client.post("/function/slow", auth=httpx.Auth()))
        await running.measures('sluice_calls_in_flight{function_name="slow.openfaas-fn"} 1.0')
        running.process.send_signal(signal.SIGTERM)
        assert await running.stop(signal.SIGINT) == 0
        response = await call
        assert (response.status_code, "the gateway stops" in response.text) == (502, True)


async def run_once(folder: Path, **more: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        env=environment(folder, **more),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_program_with_a_bad_setting_exits_2_and_names_it(tmp_path: Path) -> None:
    code, said = await run_once(tmp_path, SLUICE_PORT="http")
    assert (code, said) == (2, "gateway: SLUICE_PORT='http': expected a port from 0 to 65535\n")


async def test_program_with_an_unknown_provider_exits_2_and_names_those_there_are(
    tmp_path: Path,
) -> None:
    code, said = await run_once(tmp_path, SLUICE_PROVIDER="docker")
    assert (code, said) == (2, "gateway: SLUICE_PROVIDER='docker': expected embedded\n")
    assert not (tmp_path / "data" / "secrets").exists()


async def test_program_whose_port_is_taken_exits_1_and_names_the_owner(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, said = await run_once(tmp_path, SLUICE_PORT=str(port))
    assert code == 1
    assert f"port {port} on 127.0.0.1 is taken by" in said
    assert f"(pid {os.getpid()})" in said
    assert "Traceback" not in said


async def test_program_on_a_data_folder_in_use_exits_1(tmp_path: Path) -> None:
    async with program(tmp_path):
        code, said = await run_once(tmp_path)
    assert code == 1
    assert "Traceback" not in said
