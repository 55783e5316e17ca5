"""The process that users start: kill -9, restart, SIGTERM, a second one, bad settings."""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from tests.registry.flow import IRIS, put_dataset, put_model
from tests.registry.serving import connect, process, settings_for, until_up, until_waiting

KILLS = 3


@dataclass
class Answered:
    """What the registry said it has."""

    artifacts: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    datasets: list[tuple[int, str]] = field(default_factory=list)


async def write_until_gone(client: httpx.AsyncClient, round_: int, said: Answered) -> None:
    """Upload and register without pause until the registry no longer answers."""
    with contextlib.suppress(httpx.TransportError):
        for number in range(10_000):
            content = b"%d-%d" % (round_, number) * 5000
            artifact = await client.post("/artifacts", content=content)
            assert artifact.status_code == 201
            said.artifacts.append(artifact.json()["sha256"])
            version = await client.post("/models/m/versions", json={"artifact": said.artifacts[-1]})
            assert version.status_code == 201
            said.versions.append(version.json()["version"])
            alias = {"version": said.versions[-1], "reason": "newest"}
            assert (await client.put("/models/m/aliases/champion", json=alias)).status_code == 200


async def upload_until_gone(client: httpx.AsyncClient, round_: int, said: Answered) -> None:
    with contextlib.suppress(httpx.TransportError):
        for number in range(10_000):
            content = IRIS + b"%d,%d,x\n" % (round_, number)
            response = await client.post("/datasets/d", content=content)
            assert response.status_code == 201
            said.datasets.append((response.json()["version"], response.json()["sha256"]))


async def test_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    settings, said = settings_for(tmp_path), Answered()
    for round_ in range(KILLS):
        with process(tmp_path) as started:
            async with connect(settings) as client:
                await until_up(client, started)
                writers = [
                    asyncio.create_task(write(client, round_, said))
                    for write in (write_until_gone, write_until_gone, upload_until_gone)
                ]
                uploads, versions = len(said.datasets) + 2, len(said.versions) + 10
                async with asyncio.timeout(60):
                    while len(said.datasets) < uploads or len(said.versions) < versions:  # noqa: ASYNC110 - a process is watched
                        await asyncio.sleep(0.02)
                started.kill()
                await asyncio.gather(*writers)
    with process(tmp_path) as started:
        async with connect(settings) as client:
            await until_up(client, started)
            await check_all_there(client, said)
            assert list((settings.artifacts_dir / "tmp").iterdir()) == []


async def check_all_there(client: httpx.AsyncClient, said: Answered) -> None:
    for digest in said.artifacts:
        content = (await client.get(f"/artifacts/{digest}")).content
        assert hashlib.sha256(content).hexdigest() == digest
    newest = (await client.get("/models/m/versions/latest")).json()["version"]
    assert len(set(said.versions)) == len(said.versions)
    assert max(said.versions) <= newest
    assert (await client.get("/models/m/aliases/champion")).json()["version"] in range(
        1, newest + 1
    )
    for version, digest in said.datasets:
        told = (await client.get(f"/datasets/d/versions/{version}")).json()
        assert told["sha256"] == digest
        for form, file in told["files"].items():
            path = f"/datasets/d/versions/{version}/content?format={form}"
            content = (await client.get(path)).content
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
    events = (await client.get("/events?kind=model.registered&limit=1000")).json()["events"]
    assert [event["data"]["version"] for event in events] == list(range(1, newest + 1))[:1000]


async def test_half_made_files_are_removed_at_start(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    left = settings.artifacts_dir / "tmp"
    (left / "folder").mkdir(parents=True)
    (left / "folder" / "table.csv").write_text("a")
    (left / "upload").write_text("a")
    with process(tmp_path) as started:
        async with connect(settings) as client:
            await until_up(client, started)
            assert list(left.iterdir()) == []


async def test_sigterm_ends_waits_and_open_requests_and_leaves_no_socket(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    loop = asyncio.get_running_loop()
    with process(tmp_path) as started:
        async with connect(settings) as client:
            await until_up(client, started)
            waiting = asyncio.create_task(client.get("/events?wait=30"))
            await until_waiting(client)
            asked = loop.time()
            started.send_signal(signal.SIGTERM)
            assert (await waiting).json()["events"] == []
        code = await asyncio.to_thread(started.wait, 60)
        assert loop.time() - asked < 30, "the wait was not cut"
        assert code == 0
        assert not settings.socket_path.exists()


async def test_restart_serves_what_was_there(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    told = {}
    for turn in range(2):
        with process(tmp_path) as started:
            async with connect(settings) as client:
                await until_up(client, started)
                if turn == 0:
                    await put_model(client)
                    await put_dataset(client)
                told[turn] = [
                    (await client.get(path)).json()
                    for path in ("/models/iris", "/datasets/iris/versions/1", "/events")
                ]
            started.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(started.wait, 60) == 0
    assert told[0] == told[1]


async def test_second_registry_on_a_folder_is_refused_naming_the_first(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with process(tmp_path) as started:
        async with connect(settings) as client:
            await until_up(client, started)
            with process(tmp_path) as second:
                assert await asyncio.to_thread(second.wait, 60) == 1
                assert second.stderr is not None
                assert f"in use by process {started.pid}" in second.stderr.read().decode()
            assert (await client.get("/healthz")).status_code == 200


def test_setting_that_does_not_fit_ends_with_2_naming_it(tmp_path: Path) -> None:
    for name, value in (("REJECT_SHARE", "2"), ("DATASET_BITES", "1")):
        environ = {**os.environ, "SLUICE_DATA_DIR": str(tmp_path), f"SLUICE_REGISTRY_{name}": value}
        ended = subprocess.run(
            [sys.executable, "-m", "registry"], env=environ, capture_output=True, check=False
        )
        assert ended.returncode == 2
        assert f"SLUICE_REGISTRY_{name}='{value}'" in ended.stderr.decode()


async def test_worker_ends_when_the_registry_is_killed(tmp_path: Path) -> None:
    """The upload is large enough to be still read when the registry dies."""
    settings = settings_for(tmp_path)
    rows = b"".join(b"%d,%d,text%d\n" % (n, n * 7, n) for n in range(400_000))
    with process(tmp_path) as started:
        async with connect(settings) as client:
            await until_up(client, started)
            worker, upload = await reading(client, started.pid, b"a,b,c\n" + rows)
            started.kill()
            with contextlib.suppress(httpx.TransportError):
                await upload
            async with asyncio.timeout(60):
                while running(worker):  # noqa: ASYNC110 - a process is watched
                    await asyncio.sleep(0.01)


async def reading(
    client: httpx.AsyncClient, pid: int, content: bytes
) -> tuple[int, asyncio.Task[httpx.Response]]:
    """The worker of an upload to the registry `pid` that goes on, and that upload.

    One may be read before anybody has looked: then another is sent.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for number in count():
        upload = asyncio.create_task(client.post(f"/datasets/d{number}", content=content))
        while not upload.done():
            if found := children.read_text().split():
                return int(found[0]), upload
            await asyncio.sleep(0.005)
    raise AssertionError("count() has no end")


def running(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False  # the second where it ends between open and read
    return state != "Z"
