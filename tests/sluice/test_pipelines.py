"""`sluice pipeline` against a real process of triggers behind a forwarding gateway."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.live import ROOT
from tests.triggers.fakes import Call, FakeGateway, Reply, echo
from tests.triggers.test_process import Process

PIPELINES = """
pipelines:
  demo:
    description: For the tests.
    inputs: {n: {type: integer}}
    steps:
      first: {function: echo, input: {n: "${{ input.n }}"}}
      each: {function: echo, map: "[1, 2]", input: "${{ item }}", after: first}
      last: {function: picky, input: {n: "${{ steps.first.output.n }}"}, after: each}
"""


class Front(FakeGateway):
    """A gateway that passes /triggers/* on to the process's socket, as the real one does."""

    async def _route(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        if not target.startswith("/triggers/"):
            return await super()._route(method, target, headers, body)
        assert headers["authorization"].startswith("Basic ")
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        passed = {k: v for k, v in headers.items() if k == "idempotency-key"}
        async with httpx.AsyncClient(transport=transport, timeout=40) as client:
            answer = await client.request(
                method,
                f"http://triggers{target.removeprefix('/triggers')}",
                headers={"x-sluice-identity": "admin", **passed},
                content=body,
            )
        return answer.status_code, answer.content

    socket: Path = Path()


async def picky(call: Call) -> Reply:
    return (200, call.json) if call.json["n"] < 10 else (400, b"too large")


class Cli:
    """Runs the command against the gateway."""

    def __init__(self, gateway: Front, data_dir: Path) -> None:
        self.gateway, self.data_dir = gateway, data_dir

    async def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What `sluice pipeline ...` wrote to stdout and stderr."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sluice", "--gateway", self.gateway.url),
            *("--password-file", str(self.data_dir / "secrets" / "basic-auth-password")),
            *("pipeline", *arguments),
            cwd=ROOT,
            env={"COLUMNS": "200", "PATH": "", "SLUICE_DATA_DIR": str(self.data_dir)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == code, (out, err)
        return out.decode(), err.decode()


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[Cli]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "basic-auth-user").write_text("admin\n")
    (secrets / "basic-auth-password").write_text("of-the-tests\n")
    front = Front(functions={"echo": echo, "picky": picky})
    front.socket = tmp_path / "run" / "triggers.sock"
    await front.start()
    process = Process(tmp_path, front)
    await process.start()
    yield Cli(front, tmp_path)
    await process.end(signal.SIGKILL)
    await front.stop()


async def test_pipeline_is_applied_run_shown_and_run_again(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yml"
    file.write_text(PIPELINES)
    assert (await cli("apply", str(file)))[0] == "demo\n"

    out, err = await cli("run", "demo", "-d", '{"n": 5}', "--key", "once")
    run = out.strip()
    assert "last: succeeded" in err
    assert (await cli("run", "demo", "-d", '{"n": 5}', "--key", "once", "--no-wait"))[0] == out

    out, _ = await cli("list", "demo")
    assert "For the tests." in out
    assert run in out
    out, _ = await cli("show", run)
    assert "each" in out
    lines = [json.loads(line) for line in (await cli("logs", run, "each"))[0].splitlines()]
    assert [line.get("output") for line in lines] == [[1, 2], 1, 2]

    out, err = await cli("rerun", run, "--from", "last")
    again = json.loads((await cli("show", out.strip(), "--json"))[0])
    assert again["parent"] == run
    assert err.count("succeeded") == 3


async def test_failure_is_an_exit_code_and_the_step_s_own_words(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yml"
    file.write_text(PIPELINES.replace("picky", "gone"))
    _, err = await cli("apply", str(file), code=1)
    assert "pipelines.yml, pipeline demo, step last: unknown function 'gone'" in err
    file.write_text(PIPELINES)
    await cli("apply", str(file))
    out, err = await cli("run", "demo", "-d", '{"n": 50}', code=1)
    assert "failed: step last: picky answered 400: too large" in err
    _, err = await cli("cancel", out.strip(), code=1)
    assert "409" in err
