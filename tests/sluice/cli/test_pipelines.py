"""`sluice pipeline` against a real process of triggers behind a forwarding gateway."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from testbed.platform import ROOT
from tests.service.fakes import Call, FakeGateway, Reply, echo
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
            response = await client.request(
                method,
                f"http://triggers{target.removeprefix('/triggers')}",
                headers={"x-sluice-identity": "admin", **passed},
                content=body,
            )
        return response.status_code, response.content

    socket: Path = Path()


async def picky(call: Call) -> Reply:
    return (200, call.json) if call.json["n"] < 10 else (400, b"too large")


class Cli:
    """Runs the command against the gateway."""

    def __init__(self, gateway: Front, data_dir: Path) -> None:
        self.gateway, self.data_dir = gateway, data_dir

    async def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What `sluice pipeline ...` wrote to stdout and stderr."""
        process = await self.start(*arguments, stderr=subprocess.PIPE)
        out, err = await process.communicate()
        assert process.returncode == code, (out, err)
        return out.decode(), err.decode()

    async def start(self, *arguments: str, stderr: int) -> asyncio.subprocess.Process:
        """`sluice pipeline ...` under way."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "sluice", "--gateway", self.gateway.url),
            *("--password-file", str(self.data_dir / "secrets" / "basic-auth-password")),
            *("pipeline", *arguments),
            cwd=ROOT,
            env={"COLUMNS": "200", "PATH": "", "SLUICE_DATA_DIR": str(self.data_dir)},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )


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


async def test_run_is_followed_live_on_a_terminal(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yml"
    file.write_text(PIPELINES)
    await cli("apply", str(file))
    go = asyncio.Event()

    async def held(call: Call) -> Reply:
        await go.wait()
        return 200, call.json

    cli.gateway.functions["picky"] = held
    terminal, end = pty.openpty()
    process = await cli.start("run", "demo", "-d", '{"n": 5}', stderr=end)
    os.close(end)
    seen = await asyncio.to_thread(read_until, terminal, b"running")
    go.set()
    await asyncio.to_thread(read_until, terminal, b"")
    os.close(terminal)
    assert await process.wait() == 0
    assert b"each" in seen


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal shows up to `wanted`; all of it where that is empty."""
    seen = b""
    while not wanted or wanted not in seen:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        seen += more
    return seen


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
