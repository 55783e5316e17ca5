import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from sluice.cli.child import Program
from sluice.cli.errors import CommandError
from sluice.cli.pidfile import PidFile, running_pid, stop
from sluice.cli.supervisor import Supervisor

SERVER = """
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def address_string(self): return "unix"
class Server(socketserver.UnixStreamServer):
    pass
path = os.environ["SOCKET"]
if os.path.exists(path): os.unlink(path)
with open(os.environ["STARTS"], "a") as starts: starts.write(f"{os.getpid()}\\n")
Server(path, Handler).serve_forever()
"""


def program(folder: Path, source: str) -> Program:
    (folder / "program.py").write_text(source)
    environ = {
        "PYTHONPATH": str(folder),
        "SOCKET": str(folder / "s"),
        "STARTS": str(folder / "starts"),
    }
    return Program("program", "program", environ, f"unix:{folder / 's'}", folder / "program.log")


def pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()]


async def until_started(folder: Path, times: int) -> None:
    while len(pids(folder)) < times:  # noqa: ASYNC110 (another process writes the file)
        await asyncio.sleep(0.02)


async def test_program_that_dies_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([program(tmp_path, SERVER)], echo=False, kill_after=5)
    ready = asyncio.Event()
    running = asyncio.create_task(supervisor.run(ready.set, 60))
    await asyncio.wait_for(ready.wait(), 60)
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    await asyncio.wait_for(until_started(tmp_path, 2), 60)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    with pytest.raises(ProcessLookupError):
        os.kill(pids(tmp_path)[1], 0)


async def test_start_that_fails_ends_with_what_the_program_said(tmp_path: Path) -> None:
    broken = program(tmp_path, "import sys; sys.exit('port 8080 is taken by nginx')")
    supervisor = Supervisor([broken], echo=False, kill_after=5)
    with pytest.raises(CommandError, match="port 8080 is taken by nginx"):
        await supervisor.run(lambda: None, 60)
    assert "port 8080" in (tmp_path / "program.log").read_text()


async def test_program_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    described = program(tmp_path, SERVER)
    code = f"""
import asyncio
from pathlib import Path, PosixPath
from sluice.cli.child import Program
from sluice.cli.supervisor import Supervisor
asyncio.run(Supervisor([{described!r}], False, 5).run(lambda: print("ready", flush=True), 60))
"""
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    assert await asyncio.wait_for(supervisor.stdout.readline(), 60) == b"ready\n"
    child = os.pidfd_open(pids(tmp_path)[0])
    supervisor.kill()
    await supervisor.wait()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(child, ended.set)
    await asyncio.wait_for(ended.wait(), 60)
    asyncio.get_running_loop().remove_reader(child)
    os.close(child)


def test_second_platform_on_one_data_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run" / "sluice.pid"
    with PidFile(path):
        assert running_pid(path) == os.getpid()
        with pytest.raises(CommandError, match=f"already running with pid {os.getpid()}"):
            PidFile(path).__enter__()
    assert running_pid(path) is None


async def test_stop_waits_for_the_process_to_end() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1)
    await asyncio.to_thread(stop, process.pid, 60)
    assert await process.wait() == -signal.SIGTERM


async def test_program_killed_the_moment_it_is_ready_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([program(tmp_path, SERVER)], echo=False, kill_after=5)
    running = asyncio.create_task(
        supervisor.run(lambda: os.kill(pids(tmp_path)[0], signal.SIGKILL), 60)
    )
    while not (tmp_path / "starts").exists():  # noqa: ASYNC110 (another process makes the file)
        await asyncio.sleep(0.02)
    await asyncio.wait_for(until_started(tmp_path, 2), 60)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 60)
