"""kill -9 of the gateway, under load: the same functions answer again, nothing stays behind."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from sluice.cli.client import GatewayClient
from testbed.platform import live_platform
from tests.e2e.conftest import ECHO, Stage
from tests.torture.loads import PATIENCE, Load, answering, load, until, wait_ended

pytestmark = [pytest.mark.torture, pytest.mark.network, pytest.mark.timeout(900)]


def children(pid: int) -> set[int]:
    """All descendants of `pid`; those that end meanwhile may be missing."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found |= {child} | children(child)
    return found


def answered_more(loads: list[Load], count: int) -> None:
    """Return once each of `loads` has so many answers more, or has seen a call fail."""
    wanted = [each.answered + count for each in loads]
    until(
        lambda: all(
            each.failures or each.answered >= least
            for each, least in zip(loads, wanted, strict=True)
        )
    )


def test_killed_gateway_comes_back_with_the_same_functions_and_no_orphan(
    stage: Stage, tmp_path: Path
) -> None:
    grandchild = (
        "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\n" + ECHO
    )
    stage.serve(tmp_path, "parent", grandchild)
    stage.serve(tmp_path, "echo", ECHO)
    first = stage.http.post(
        "/registry/datasets/kept", content=b"a,b\n1,2\n3,4\n", headers={"content-type": "text/csv"}
    )
    assert first.status_code == 201, first.text
    for _ in range(5):
        with load(f"{stage.platform.url}/function/echo", 4) as loads:
            until(lambda loads=loads: all(each.answered for each in loads))  # type: ignore[misc] # bound in the loop
            gateway = stage.platform.program("gateway")
            # Zygote, and for one function its intermediate and its replica.
            until(lambda gateway=gateway: len(children(gateway)) >= 3)  # type: ignore[misc] # as above
            family = children(gateway)
            os.kill(gateway, signal.SIGKILL)
            assert all(wait_ended(pid, PATIENCE) for pid in family | {gateway})
            answering(stage, "echo")
    answering(stage, "parent")
    names = {function["name"] for function in stage.api.functions()}
    assert names == {"parent", "echo"}
    kept = stage.http.get("/registry/datasets/kept/versions/1")
    assert kept.json()["sha256"] == first.json()["sha256"]


def test_update_under_load_fails_no_call(stage: Stage, tmp_path: Path) -> None:
    stage.serve(tmp_path, "echo", ECHO)
    with load(f"{stage.platform.url}/function/echo", 8) as loads:
        for version in range(5):
            stage.deploy(tmp_path, "echo", f"VERSION = {version}\n{ECHO}")
            answered_more(loads, 25)
    assert [each.failures for each in loads] == [[] for _ in loads]


def test_scaling_under_load_fails_no_call(stage: Stage, tmp_path: Path) -> None:
    stage.serve(tmp_path, "echo", ECHO)
    with load(f"{stage.platform.url}/function/echo", 8) as loads:
        for replicas in (3, 1, 4, 2, 0, 1) * 2:
            stage.api.scale("echo", replicas)
            answered_more(loads, 25)
            time.sleep(0.3)  # so that each change meets one that is done, not only those under way
    assert [each.failures for each in loads] == [[] for _ in loads]


def test_down_leaves_no_process_port_or_mount(tmp_path: Path) -> None:
    with live_platform(tmp_path / ".sluice") as platform:
        password = platform.password_file.read_text().strip()
        with platform.client() as http, GatewayClient(platform.url, ("admin", password)) as api:
            Stage(platform, http, api).serve(tmp_path, "echo", ECHO)
        before = platform.pids()
        assert before
        platform.sluice("down")
        assert platform.pids() == []
        assert str(tmp_path) not in Path("/proc/mounts").read_text()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{platform.url}/healthz")
