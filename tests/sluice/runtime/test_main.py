"""Importing the runtime has no side effect, because a zygote imports it before it forks."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.sluice.runtime.replica import Replica

HEAVY = ["asyncio", "uvloop", "prometheus_client", "sluice.http1"]
LOOK = """
import json, os, sys, threading
{imports}
print(json.dumps({{
    "tasks": len(os.listdir("/proc/self/task")),
    "modules": [name for name in {heavy} if name in sys.modules],
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[3:-1],
}}))
"""


def look(imports: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(imports=imports, heavy=HEAVY)],
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


def test_importing_main_starts_nothing_and_loads_nothing_heavy() -> None:
    assert look("import sluice.runtime.main") == {"tasks": 1, "modules": [], "descriptors": []}


def test_preload_imports_all_of_serving_in_one_task() -> None:
    """But the library of the metrics' page, for which no first call waits."""
    seen = look("import sluice.runtime.main\nsluice.runtime.main.preload()")
    assert seen["tasks"] == 1
    assert seen["modules"] == ["asyncio", "uvloop", "sluice.http1"]
    assert seen["descriptors"] == []


def test_fork_of_a_preloaded_process_serves(tmp_path: Path) -> None:
    package = tmp_path / "function"
    package.mkdir()
    (package / "handler.py").write_text(
        "import os, subprocess\ndef handle(req):\n"
        "    code = subprocess.run(['false']).returncode\n"
        "    return dict(os.environ, CODE=str(code))\n"
    )
    source = (
        "import os, signal, sys, sluice.runtime.main\n"
        "sluice.runtime.main.preload()\n"
        "environ = dict(os.environ, FORKED='1')\n"
        "child = os.fork()\n"
        "if not child:\n    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "    os._exit(sluice.runtime.main.serve(environ))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    with Replica(tmp_path, None, {"ZYGOTES": "own"}, program=["-c", source]) as replica:
        environ = json.loads(replica.ready().call("/").body)
        assert environ["FORKED"] == "1"
        assert environ["CODE"] == "1"
        assert "SLUICE_STATUS_FD" not in environ
        child = Path(f"/proc/{replica.process.pid}/task/{replica.process.pid}/children")
        os.kill(int(child.read_text()), 15)
        assert replica.exit_code() == 0


def test_status_descriptor_that_is_not_open_ends_with_a_message(tmp_path: Path) -> None:
    environ = {"SLUICE_STATUS_FD": "777", "exec_timeout": "soon"}
    with Replica(tmp_path, "def handle(req): ...", environ) as replica:
        assert replica.exit_code() == 2
        assert "exec_timeout='soon'" in replica.log
        assert "SLUICE_STATUS_FD='777' is not an open descriptor" in replica.log
