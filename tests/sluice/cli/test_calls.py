"""`sluice calls` against a real gateway in front of fake replicas."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from gateway.queue.call import CallState
from testbed.platform import ROOT
from tests.fake_replica import ReplicaCall
from tests.gateway.queue.running import Queue, eventually, queue_in


async def calls(queue: Queue, *arguments: str, code: int = 0) -> tuple[bytes, str]:
    """What `sluice calls ...` wrote to stdout and stderr."""
    settings = queue.gateway.settings
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "sluice", "--gateway", f"http://127.0.0.1:{queue.gateway.port}"),
        *("--password-file", str(settings.secrets_dir / "basic-auth-password")),
        *("calls", *arguments),
        cwd=ROOT,
        env={"COLUMNS": "200", "PATH": "", "SLUICE_DATA_DIR": str(settings.data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == code, (out, err)
    return out, err.decode()


async def test_dead_call_is_listed_shown_replayed_and_deleted(tmp_path: Path) -> None:
    async def second(call: ReplicaCall) -> None:
        await call.body()
        await call.reply(422 if len(call.replica.calls) == 1 else 200, b"\x00answer")

    async with queue_in(tmp_path, {"f": second}) as queue:
        call = await queue.accept("f/path")
        await queue.until(call, CallState.DEAD)
        listed, _ = await calls(queue, "list", "--state", "dead", "-f", "f", "--json")
        assert [each["id"] for each in json.loads(listed)] == [call]
        table, _ = await calls(queue, "list")
        assert "answered 422, which is not tried again" in table.decode()
        shown = json.loads((await calls(queue, "show", call))[0])
        assert (shown["state"], shown["status"], shown["path"]) == ("dead", 422, "/path")

        assert (await calls(queue, "replay", call))[1] == f"replayed {call}\n"
        await queue.until(call, CallState.SUCCEEDED)
        assert (await calls(queue, "result", call))[0] == b"\x00answer"

        assert (await calls(queue, "delete", call))[1] == f"deleted {call}\n"
        _, told = await calls(queue, "show", call, code=1)
        assert call in told
        assert json.loads((await calls(queue, "list", "--json"))[0]) == []


async def test_waiting_call_is_cancelled_and_one_that_runs_is_not(tmp_path: Path) -> None:
    async def never(call: ReplicaCall) -> None:
        await asyncio.Event().wait()

    one = {"com.sluice.async.concurrency": "1"}
    async with queue_in(tmp_path, {"f": never}, one, drain_timeout=0.1) as queue:
        running = await queue.accept("f")
        await eventually(lambda: queue.calls("f"))
        waiting = await queue.accept("f")
        assert (await calls(queue, "cancel", waiting))[1] == f"cancelled {waiting}\n"
        assert (await queue.done(waiting)).state is CallState.CANCELLED
        _, told = await calls(queue, "cancel", running, code=1)
        assert "is running, not queued" in told
        _, told = await calls(queue, "delete", running, code=1)
        assert "409" in told or "runs" in told
