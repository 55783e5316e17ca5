"""`python -m triggers` as a process, against a scripted gateway; killed where it hurts."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.platform import ROOT
from tests.service.fakes import Call, FakeGateway, Reply

ADMIN = {"x-sluice-identity": "admin"}
STEPS = """
pipelines:
  chain:
    inputs: {n: {type: integer}}
    steps:
      a: {function: count, input: {n: "${{ input.n }}"}}
      b: {function: count, input: {n: "${{ steps.a.output.n }}"}}
      each:
        function: count
        map: {over: "[10, 20, 30, 40, 50, 60]", max_parallel: 2}
        input: {n: "${{ item }}"}
        after: b
      c: {function: count, input: {n: "${{ steps.each.output[5].n }}"}}
"""


@dataclass
class Process:
    """A running `python -m triggers`."""

    data_dir: Path
    gateway: FakeGateway
    process: asyncio.subprocess.Process | None = None
    client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        socket = str(self.data_dir / "run" / "triggers.sock")
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "KAFKA_"))},
            "SLUICE_DATA_DIR": str(self.data_dir),
            "SLUICE_TRIGGERS_GATEWAY_URL": self.gateway.url,
            "SLUICE_TRIGGERS_REBUILD_INTERVAL": "100ms",
        }
        log = (self.data_dir / "triggers.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "triggers", env=environ, cwd=ROOT, stdout=log, stderr=log
        )
        log.close()
        transport = httpx.AsyncHTTPTransport(uds=socket)
        self.client = httpx.AsyncClient(
            transport=transport, base_url="http://triggers", headers=ADMIN, timeout=60
        )
        async with asyncio.timeout(60):
            while not await self._responses():
                assert self.process.returncode is None, (self.data_dir / "triggers.log").read_text()
                await asyncio.sleep(0.02)

    async def _responses(self) -> bool:
        assert self.client is not None
        try:
            return (await self.client.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    async def end(self, number: int) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await self.process.wait()
        if self.client is not None:
            await self.client.aclose()
            self.client = None
        return code

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        assert self.client is not None
        return await self.client.request(method, path, **more)

    async def ended(self, run: str) -> Mapping[str, Any]:
        """The run once it has ended, by long poll."""
        found: dict[str, Any] = (await self.ask("GET", f"/runs/{run}")).json()
        async with asyncio.timeout(60):
            while found["state"] in {"waiting", "running"}:
                query = {"wait": "10", "revision": found["revision"]}
                found = (await self.ask("GET", f"/runs/{run}", params=query)).json()
        return found


class Counter:
    """A function that counts what it was called for, and hangs where it is told to."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.hang_at = ""
        self.hanging = asyncio.Event()

    async def __call__(self, call: Call) -> Reply:
        step = call.key.partition("/")[2]
        if step == self.hang_at:
            self.hang_at = ""
            self.hanging.set()
            await asyncio.Event().wait()
        self.answered.append(step)
        return 200, {"n": call.json["n"] + 1}


@pytest.fixture
def counter(gateway: FakeGateway) -> Counter:
    made = Counter()
    gateway.functions["count"] = made
    return made


@pytest.fixture
async def process(tmp_path: Path, gateway: FakeGateway) -> AsyncIterator[Process]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "basic-auth-user").write_text("admin\n")
    (secrets / "basic-auth-password").write_text("of-the-tests\n")
    made = Process(tmp_path, gateway)
    await made.start()
    yield made
    await made.end(signal.SIGKILL)


async def started(process: Process, n: int = 1, key: str = "") -> str:
    put = await process.ask("PUT", "/pipelines", content=STEPS)
    assert put.status_code == 200, put.text
    headers = {"idempotency-key": key} if key else {}
    response = await process.ask("POST", "/pipelines/chain/runs", json={"n": n}, headers=headers)
    assert response.status_code == 202, response.text
    run: str = response.json()["run"]
    return run


@pytest.mark.parametrize("step", ["b/0", "each/3"])
async def test_killed_run_goes_on_and_repeats_no_recorded_step(
    process: Process, counter: Counter, step: str
) -> None:
    counter.hang_at = step
    run = await started(process)
    async with asyncio.timeout(60):
        await counter.hanging.wait()
    assert await process.end(signal.SIGKILL) == -signal.SIGKILL
    before = list(counter.answered)
    await process.start()
    found = await process.ended(run)
    assert found["state"] == "succeeded"
    # Of items two may be under way: the other one's answer may not have been recorded.
    again = {one for one in before if counter.answered.count(one) > 1}
    assert len(again) <= (1 if step.startswith("each") else 0)
    assert set(counter.answered) == {"a/0", "b/0", "c/0", *(f"each/{at}" for at in range(6))}
    assert found["steps"][-1]["output"] == {"n": 62}


async def test_run_is_under_way_again_after_many_kills(process: Process, counter: Counter) -> None:
    runs = [await started(process, n) for n in range(20)]
    for _ in range(2):
        await process.end(signal.SIGKILL)
        await process.start()
    for run in runs:
        assert (await process.ended(run))["state"] == "succeeded"


async def test_stopped_process_ends_with_0_and_leaves_its_runs_to_the_next(
    process: Process, counter: Counter
) -> None:
    counter.hang_at = "b/0"
    run = await started(process)
    await counter.hanging.wait()
    assert await process.end(signal.SIGTERM) == 0
    await process.start()
    assert (await process.ended(run))["state"] == "succeeded"
    assert counter.answered.count("a/0") == 1


async def test_schedule_is_followed_by_a_real_process(
    process: Process, counter: Counter, gateway: FakeGateway
) -> None:
    gateway.annotations["echo"] = {"topic": "cron-function", "schedule": "* * * * * *; bad"}
    await gateway.until(lambda: len(gateway.of("echo")) >= 2)
    keys = [call.key for call in gateway.of("echo")]
    assert len(set(keys)) == len(keys)
    shown = (await process.ask("GET", "/cron")).json()
    assert [one["function"] for one in shown["schedules"]] == ["echo.openfaas-fn"]
    assert "expected 5 fields" in shown["errors"][0]["error"]
    assert {row["target"] for row in shown["history"]} == {"echo.openfaas-fn"}


async def test_pipeline_is_started_by_its_schedule_with_its_input_and_not_by_http(
    process: Process, counter: Counter, gateway: FakeGateway
) -> None:
    cron = '{schedule: "* * * * * *", input: {n: 7}}'
    steps = STEPS.replace(
        "    steps:\n", f"    triggers: {{http: false, cron: {cron}}}\n    steps:\n", 1
    )
    assert (await process.ask("PUT", "/pipelines", content=steps)).status_code == 200
    refused = await process.ask("POST", "/pipelines/chain/runs", json={"n": 1})
    assert (refused.status_code, refused.json()["error"]) == (
        403,
        "pipeline chain is not started by HTTP",
    )
    await gateway.until(lambda: "c/0" in counter.answered)
    runs = (await process.ask("GET", "/pipelines/chain/runs")).json()["runs"]
    assert {run["trigger"] for run in runs} == {"cron"}
    assert (await process.ended(runs[-1]["id"]))["input"] == {"n": 7}


async def test_only_the_gateways_administrator_is_answered(process: Process) -> None:
    for identity, status in (("function", 403), ("", 401), ("admin, admin", 401)):
        response = await process.ask("GET", "/pipelines", headers={"x-sluice-identity": identity})
        assert response.status_code == status
    text = (await process.ask("GET", "/metrics", headers={"x-sluice-identity": ""})).text
    assert "sluice_cron_schedules 0.0" in text


BAD: list[tuple[str, str, bytes, int, str]] = [
    ("POST", "/pipelines/gone/runs", b"{}", 404, "no pipeline 'gone'; there are chain"),
    ("POST", "/pipelines/chain/runs", b"{", 400, "line 1 column 2"),
    ("POST", "/pipelines/chain/runs", b'{"m": 1}', 400, "has no 'm'"),
    ("POST", "/pipelines/chain/runs", b"x" * 2_000_000, 413, "at most 1048576 bytes"),
    ("PUT", "/pipelines?file=x.yml", b"pipelines: {a: {steps: {b: {}}}}", 400, "x.yml, pip"),
    ("PUT", "/pipelines", b"\xff", 400, "byte 0 is not UTF-8"),
    ("GET", "/runs/gone", b"", 404, "no run gone"),
    ("POST", "/runs/gone/cancel", b"", 404, "no run gone"),
    ("POST", "/runs/gone/rerun", b"", 404, "no run gone"),
    ("GET", "/runs?limit=0", b"", 400, "limit"),
]


async def test_bad_request_says_what_is_wrong(process: Process, counter: Counter) -> None:
    await started(process)
    for method, path, body, status, told in BAD:
        response = await process.ask(method, path, content=body)
        assert response.status_code == status, response.text
        assert told in response.json()["error"]


async def test_runs_are_listed_newest_first_in_pages(process: Process, counter: Counter) -> None:
    runs = [await started(process, n) for n in range(3)]
    for run in runs:
        await process.ended(run)
    first = (await process.ask("GET", "/pipelines/chain/runs?limit=2")).json()
    rest = (await process.ask("GET", f"/runs?limit=2&before={first['next']}")).json()
    assert [one["id"] for one in first["runs"] + rest["runs"]] == sorted(runs, reverse=True)
    assert rest["next"] is None
    same = await process.ask(
        "POST", "/pipelines/chain/runs", json={"n": 9}, headers={"idempotency-key": "k"}
    )
    again = await process.ask(
        "POST", "/pipelines/chain/runs", json={"n": 9}, headers={"idempotency-key": "k"}
    )
    assert (same.status_code, again.status_code) == (202, 200)
    assert same.json() == again.json()


async def test_second_process_on_the_same_socket_is_refused(process: Process) -> None:
    environ = {**os.environ, "SLUICE_DATA_DIR": str(process.data_dir)}
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "triggers", env=environ, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, said = await other.communicate()
    assert other.returncode == 1
    assert "is in use by process" in said.decode()


async def test_setting_that_does_not_fit_ends_with_2_and_names_it(tmp_path: Path) -> None:
    environ = {**os.environ, "SLUICE_DATA_DIR": str(tmp_path), "SLUICE_TRIGGERS_LEASE": "soon"}
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "triggers", env=environ, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, said = await other.communicate()
    assert other.returncode == 2
    assert "SLUICE_TRIGGERS_LEASE='soon'" in said.decode()
    assert json.dumps(sorted(tmp_path.iterdir()), default=str) == "[]"
