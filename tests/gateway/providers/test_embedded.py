import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.providers.embedded import EmbeddedProvider
from gateway.providers.embedded.bundles import Bundles
from gateway.types.errors import InvalidRequestError, UnavailableError
from gateway.types.function import FunctionDeployment, FunctionStatus, ReplicaState, Resources
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId
from testbed.embedded import HELLO, Watcher, asked, build, call, make_bundles, settings_of

Start = Callable[..., Awaitable[EmbeddedProvider]]

EXITS = "import os\ndef handle(event, context):\n    os._exit(3)\n"
CRASHES = "import os, signal\ndef handle(event, context):\n    os.kill(1, signal.SIGSEGV)\n"
LOOPS = "async def handle(event, context):\n    while True:\n        pass\n"
SLEEPS = "import time\ndef handle(event, context):\n    time.sleep(600)\n"
HOG = """
def handle(event, context):
    held = []
    while True:
        held.append(bytearray(b"x" * (4 << 20)))
"""
BURNS = """
import time
def handle(event, context):
    begin, used = time.monotonic(), time.process_time()
    while time.monotonic() - begin < 1:
        pass
    return str(time.process_time() - used)
"""
WAITS = """
import asyncio, os
begun = asyncio.Event()
async def handle(event, context):
    if event.body != b"wait":
        await begun.wait()
        return "begun"
    begun.set()
    while not os.path.exists("/tmp/.cache/enough"):
        await asyncio.sleep(0.01)
    return "waited"
"""
SECRET = """
def handle(event, context):
    with open("/var/openfaas/secrets/token") as file:
        return file.read()
"""
ENVIRONMENT = (
    "import json, os\ndef handle(event, context):\n    return json.dumps(dict(os.environ))\n"
)
FOLDERS = """
import json, os, tempfile
def handle(event, context):
    with open("/tmp/mine", "a") as file:
        file.write("x")
    return json.dumps([tempfile.gettempdir(), os.getcwd(), os.path.getsize("/tmp/mine")])
"""


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return make_bundles(tmp_path)


@pytest.fixture
async def start(tmp_path: Path, bundles: Bundles) -> AsyncIterator[Start]:
    """Starts a provider over the test's data folder; each is closed in the end."""
    async with AsyncExitStack() as stack:

        async def begin(**knobs: Any) -> EmbeddedProvider:
            provider = EmbeddedProvider(settings_of(tmp_path, **knobs), bundles)
            await provider.start()
            stack.push_async_callback(provider.close)
            return provider

        yield begin


async def restarted(provider: EmbeddedProvider, tmp_path: Path) -> Any:
    await provider.close()
    again = EmbeddedProvider(settings_of(tmp_path), Bundles(tmp_path))
    await again.start()
    return again


async def test_functions_and_counts_survive_a_restart(tmp_path: Path, bundles: Bundles) -> None:
    build(bundles, "one", HELLO)
    first = EmbeddedProvider(settings_of(tmp_path), bundles)
    await first.start()
    await first.deploy(asked("one", labels={"a": "b"}))
    await first.scale(FunctionId("one"), 2)
    created = (await first.status(FunctionId("one"))).created_at
    again = await restarted(first, tmp_path)
    watcher = Watcher(again)
    await watcher.ready("one", 2)
    assert watcher.status("one").deployment == asked("one", labels={"a": "b"})
    assert watcher.status("one").created_at == created
    await again.close()


async def test_build_is_fixed_at_deploy_over_restarts(tmp_path: Path, bundles: Bundles) -> None:
    build(bundles, "one", HELLO)
    first = EmbeddedProvider(settings_of(tmp_path), bundles)
    await first.start()
    await first.deploy(asked("one"))
    build(bundles, "one", HELLO.replace("hello", "newer"))
    again = await restarted(first, tmp_path)
    watcher = Watcher(again)
    (replica,) = await watcher.ready("one")
    assert await call(replica.address) == (200, b"hello")
    await again.deploy(asked("one"))
    replica = await watcher.successor("one", replica)
    assert await call(replica.address) == (200, b"newer")
    assert len(again.digests_in_use()) == 1
    await again.close()


async def test_failed_update_keeps_the_old_generation(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", HELLO)
    build(bundles, "broken", "def handle(event, context:\n")
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (old,) = await watcher.ready("one")
    await provider.deploy(asked("one", image="broken"))
    await watcher.until(lambda: watcher.status("one").reason)
    assert "update failed" in watcher.status("one").reason
    assert "handler.py" in watcher.status("one").reason
    assert [each.id for each in await watcher.ready("one")] == [old.id]
    assert await call(old.address) == (200, b"hello")
    await provider.deploy(asked("one"))
    await watcher.until(lambda: not watcher.status("one").reason)


async def test_failed_update_is_tried_again_after_a_restart(
    tmp_path: Path, bundles: Bundles
) -> None:
    build(bundles, "one", HELLO)
    build(bundles, "broken", "import absent_module\n")
    first = EmbeddedProvider(settings_of(tmp_path), bundles)
    await first.start()
    watcher = Watcher(first)
    await first.deploy(asked("one"))
    await watcher.ready("one")
    await first.deploy(asked("one", image="broken"))
    await watcher.until(lambda: watcher.status("one").reason)
    again = await restarted(first, tmp_path)
    watcher = Watcher(again)
    await watcher.until(lambda: "update failed" in watcher.status("one").reason)
    (replica,) = await watcher.ready("one")
    assert await call(replica.address) == (200, b"hello")
    await again.close()


async def test_same_deployment_again_changes_nothing(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", HELLO)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    before = await watcher.ready("one")
    await provider.deploy(asked("one"))
    assert await watcher.ready("one") == before


async def test_last_of_concurrent_deploys_wins(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", ENVIRONMENT)
    provider = await start()
    watcher = Watcher(provider)
    deployments = [asked("one", env_vars={"ROUND": str(number)}) for number in range(6)]
    await asyncio.gather(*(provider.deploy(each) for each in deployments))
    (replica,) = await watcher.ready("one")
    while b'"ROUND": "5"' not in (await call(replica.address))[1]:
        await watcher.next()
        (replica,) = await watcher.ready("one")
    assert watcher.status("one").deployment.env_vars == {"ROUND": "5"}


async def test_unbuilt_image_is_refused_with_the_way_to_build(start: Start) -> None:
    provider = await start()
    with pytest.raises(InvalidRequestError, match=r"faas-cli up --remote-builder .*sluice up"):
        await provider.deploy(asked("one"))
    with pytest.raises(InvalidRequestError, match="no-such-command"):
        await provider.deploy(asked("one", env_process="no-such-command -x"))
    assert list(await provider.list(DEFAULT_NAMESPACE)) == []


async def test_command_on_the_machine_runs_without_a_build(start: Start) -> None:
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("cat", env_process="cat"))
    (replica,) = await watcher.ready("cat")
    assert await call(replica.address, b"ping") == (200, b"ping")


async def test_built_image_wins_over_a_command(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", HELLO)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one", env_process="cat"))
    (replica,) = await watcher.ready("one")
    assert await call(replica.address, b"ping") == (200, b"hello")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"limits": Resources(memory="much")}, "limits.memory 'much'"),
        ({"limits": Resources(memory="12")}, "limits.memory '12'"),
        ({"requests": Resources(cpu="fast")}, "requests.cpu 'fast'"),
        ({"env_vars": {"A=B": "c"}}, "A=B"),
        ({"env_vars": {"A": "c\0"}}, "envVars A"),
        ({"labels": {"com.openfaas.scale.min": "many"}}, "com.openfaas.scale.min='many'"),
        ({"labels": {"com.openfaas.scale.min": "1000"}}, "com.openfaas.scale.min"),
        ({"secrets": ("../password",)}, "secret '../password'"),
    ],
)
async def test_bad_deployment_is_named_and_changes_nothing(
    start: Start, fields: dict[str, Any], named: str
) -> None:
    provider = await start()
    with pytest.raises(InvalidRequestError) as caught:
        await provider.deploy(asked("cat", env_process="cat", **fields))
    assert named in str(caught.value)
    assert list(await provider.list(DEFAULT_NAMESPACE)) == []


@pytest.mark.parametrize("name", ["", "Upper", "a.b", "../x", "a" * 64, "-a", "a_b", "a\n"])
async def test_bad_function_name_is_refused(start: Start, name: str) -> None:
    provider = await start()
    with pytest.raises(InvalidRequestError, match="function"):
        await provider.deploy(FunctionDeployment(FunctionId(name), "x", env_process="cat"))


async def test_unknown_namespace_is_refused(start: Start) -> None:
    provider = await start()
    with pytest.raises(InvalidRequestError, match="'team' does not exist"):
        await provider.deploy(FunctionDeployment(FunctionId("a", "team"), "x", env_process="cat"))


async def test_replica_that_exits_is_restarted_with_its_reason(
    start: Start, bundles: Bundles
) -> None:
    build(bundles, "one", EXITS)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call(replica.address)
    assert (await watcher.failed("one")).reason == "exited with code 3"
    (again,) = await watcher.ready("one")
    assert (again.restarts, again.reason) == (1, "exited with code 3")


async def test_handler_that_cannot_be_loaded_leaves_its_reason(
    start: Start, bundles: Bundles
) -> None:
    build(bundles, "one", "import absent_module\n")
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    assert "absent_module" in (await watcher.failed("one")).reason
    await watcher.until(lambda: "absent_module" in watcher.status("one").reason)
    # It is tried again, with a pause that grows.
    await watcher.until(lambda: any(each.restarts >= 2 for each in watcher.status("one").running))


async def test_endless_loop_is_killed_and_replaced(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", LOOPS)
    provider = await start(health_interval=0.1, health_timeout=0.5)
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call(replica.address)
    assert (await watcher.failed("one")).reason == "did not answer /_/health within 0.5 s"
    await watcher.ready("one")


async def test_stuck_sync_handler_gets_a_successor_at_once(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", SLEEPS)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one", env_vars={"exec_timeout": "1s"}))
    (replica,) = await watcher.ready("one")
    status, _ = await call(replica.address)
    assert status == 504
    await watcher.successor("one", replica)
    statuses = [each for each in watcher.events if isinstance(each, FunctionStatus)]
    seen = [each for event in statuses for each in event.running if each.id == replica.id]
    draining = [each for each in seen if each.state is ReplicaState.DRAINING]
    assert draining
    assert "exec_timeout" in draining[0].reason


async def test_replica_over_its_memory_limit_dies_alone(start: Start, bundles: Bundles) -> None:
    build(bundles, "hog", HOG)
    build(bundles, "one", HELLO)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("hog", limits=Resources(memory="64Mi")))
    await provider.deploy(asked("one", limits=Resources(memory="64Mi")))
    (hog,), (other,) = await watcher.ready("hog"), await watcher.ready("one")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call(hog.address)
    reason = (await watcher.failed("hog")).reason
    assert reason.startswith("memory limit 64Mi exceeded: used ")
    assert int(reason.split()[-2]) >= 60
    assert await watcher.ready("one") == [other]
    await watcher.ready("hog")


async def test_cpu_limit_holds_and_usage_shows_it(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", BURNS)
    provider = await start(health_interval=0.6)
    watcher = Watcher(provider)
    await provider.deploy(asked("one", limits=Resources(cpu="200m")))
    (replica,) = await watcher.ready("one")
    quotas = list(Path("/sys/fs/cgroup").glob(f"cpu/**/{replica.id}/cpu.cfs_quota_us"))
    if not quotas:
        pytest.skip("this user has no control group for CPU here: the limit is not enforced")
    async with asyncio.timeout(60):
        while True:
            status, body = await call(replica.address)
            assert status == 200
            assert float(body) < 0.6, "CPU seconds of one second on the clock"
            used = (await provider.usage(FunctionId("one"))).cpu_millicores
            assert used < 600
            if used > 20:  # a busy machine may have kept it from running
                return


async def test_function_reads_its_secret_and_its_next_value(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", SECRET)
    provider = await start()
    watcher = Watcher(provider)
    await provider.put_secret(DEFAULT_NAMESPACE, "token", b"first")
    await provider.deploy(asked("one", secrets=("token",)))
    (replica,) = await watcher.ready("one")
    assert await call(replica.address) == (200, b"first")
    await provider.put_secret(DEFAULT_NAMESPACE, "token", b"second")
    assert await call(replica.address) == (200, b"second")


async def test_removed_secret_fails_the_next_start(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", SECRET)
    provider = await start()
    watcher = Watcher(provider)
    await provider.put_secret(DEFAULT_NAMESPACE, "token", b"first")
    await provider.deploy(asked("one", secrets=("token",)))
    await watcher.ready("one")
    await provider.delete_secret(DEFAULT_NAMESPACE, "token")
    await provider.scale(FunctionId("one"), 2)
    assert (await watcher.failed("one")).reason == "secret token does not exist any more"


async def test_environment_holds_what_was_asked_and_nothing_of_the_gateway(
    start: Start, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_TEST_CREDENTIAL", "gateway's own")
    build(bundles, "one", ENVIRONMENT)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(
        asked("one", env_vars={"OMP_NUM_THREADS": "3", "SLUICE_BUNDLE": "/", "MINE": "ä"})
    )
    (replica,) = await watcher.ready("one")
    text = (await call(replica.address))[1].decode()
    assert '"OMP_NUM_THREADS": "3"' in text
    assert '"MINE": "\\u00e4"' in text
    assert '"OPENFAAS_NAME": "one"' in text
    assert '"ORT_DISABLE_TELEMETRY": "1"' in text
    for unwanted in ("SLUICE_TEST_CREDENTIAL", "OPENBLAS_NUM_THREADS", "PYTHONPATH"):
        assert unwanted not in text


async def test_tmp_is_the_replica_s_own_and_goes_with_it(
    start: Start, bundles: Bundles, tmp_path: Path
) -> None:
    bundle = build(bundles, "one", FOLDERS)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await provider.scale(FunctionId("one"), 2)
    for replica in await watcher.ready("one", 2):
        _, body = await call(replica.address)
        assert body == f'["/tmp", "{bundle.folder}", 1]'.encode()
        # It is memory: nothing of it is on the disk.
        assert not (tmp_path / "run" / "replicas" / replica.id / "mine").exists()
    await provider.delete(FunctionId("one"))
    assert list((tmp_path / "run" / "replicas").iterdir()) == []
    assert list((tmp_path / "run" / "sockets").iterdir()) == []


async def test_start_that_takes_too_long_is_ended(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", f"import time\ndef init():\n    time.sleep(600)\n{HELLO}")
    provider = await start(start_timeout=1.0)
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    assert (await watcher.failed("one")).reason == "not ready within 1 s"


async def test_delete_while_a_replica_starts_leaves_nothing(
    start: Start, bundles: Bundles, tmp_path: Path
) -> None:
    build(bundles, "one", f"import time\ndef init():\n    time.sleep(600)\n{HELLO}")
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await watcher.until(lambda: watcher.status("one").running)
    await provider.delete(FunctionId("one"))
    assert list((tmp_path / "run" / "replicas").iterdir()) == []


async def test_scale_beyond_the_limit_is_refused(start: Start) -> None:
    provider = await start(replica_limit=3)
    await provider.deploy(asked("cat", env_process="cat"))
    with pytest.raises(InvalidRequestError, match="expected 0 to 3, got 4"):
        await provider.scale(FunctionId("cat"), 4)
    with pytest.raises(InvalidRequestError, match="got -1"):
        await provider.scale(FunctionId("cat"), -1)


async def test_second_gateway_on_the_folder_is_refused(
    start: Start, tmp_path: Path, bundles: Bundles
) -> None:
    await start()
    with pytest.raises(UnavailableError, match="another gateway uses"):
        await EmbeddedProvider(settings_of(tmp_path), bundles).start()


async def test_socket_paths_are_short_however_long_the_folder_is(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long" * 30)
    bundles = make_bundles(data_dir)
    build(bundles, "one", HELLO)
    provider = EmbeddedProvider(settings_of(data_dir), bundles)
    await provider.start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    assert await call(replica.address) == (200, b"hello")
    sockets = Path(getattr(replica.address, "path", "")).parent
    await provider.close()
    assert not sockets.exists()


async def test_connection_to_a_dead_replica_is_refused_not_held(
    start: Start, bundles: Bundles
) -> None:
    build(bundles, "one", EXITS)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call(replica.address)
    await watcher.failed("one")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"refused|No such"):
        client.connect(getattr(replica.address, "path", ""))


async def test_dead_zygote_takes_its_replicas_along_and_both_come_back(
    start: Start, bundles: Bundles
) -> None:
    build(bundles, "one", HELLO)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    (zygote,) = provider.zygote_processes()
    os.kill(zygote, signal.SIGKILL)
    again = await watcher.successor("one", replica)
    assert await call(again.address) == (200, b"hello")
    assert provider.zygote_processes() != [zygote]


async def test_idle_zygote_ends_and_returns_on_demand(start: Start, bundles: Bundles) -> None:
    build(bundles, "one", HELLO)
    provider = await start(zygote_keep=0.2)
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await watcher.ready("one")
    (zygote,) = provider.zygote_processes()
    ended = os.pidfd_open(zygote)
    await provider.scale(FunctionId("one"), 0)
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(ended, over.set)
    await asyncio.wait_for(over.wait(), 60)
    asyncio.get_running_loop().remove_reader(ended)
    os.close(ended)
    assert provider.zygote_processes() == []
    await provider.scale(FunctionId("one"), 1)
    await watcher.ready("one")
    assert len(provider.zygote_processes()) == 1


async def test_library_that_starts_a_thread_makes_a_cold_start_that_says_so(
    start: Start, bundles: Bundles, tmp_path: Path
) -> None:
    environment = bundles.environment("test-lock")
    build(bundles, "one", HELLO, "threaded_library")
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "threaded_library.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    assert environment.is_dir()
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one", env_vars={"PYTHONPATH": str(tmp_path / "libraries")}))
    (replica,) = await watcher.ready("one")
    assert await call(replica.address) == (200, b"hello")
    log = (tmp_path / "logs" / DEFAULT_NAMESPACE / "one" / f"{replica.id}.log").read_text()
    assert "cold start: 1 threads were started at import" in log


async def test_replicas_log_in_the_gateways_format_unless_their_function_says_otherwise(
    start: Start, bundles: Bundles, tmp_path: Path
) -> None:
    build(bundles, "one", HELLO)
    build(bundles, "two", HELLO)
    provider = await start(log_format="json")
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await provider.deploy(asked("two", env_vars={"SLUICE_LOG_FORMAT": "text"}))
    await watcher.ready("one")
    await watcher.ready("two")
    one = json.loads(await logged(tmp_path, "one", '"msg": "ready"'))
    assert one["function"] == f"one.{DEFAULT_NAMESPACE}"
    assert "level=info" in await logged(tmp_path, "two", "msg=ready")


async def logged(data_dir: Path, function: str, text: str) -> str:
    """The first line with `text` in a function's log, without the time before it.

    Polls, as a file has no event to wait for.
    """
    folder = data_dir / "logs" / DEFAULT_NAMESPACE / function
    async with asyncio.timeout(60):
        while True:
            lines = [
                line for path in folder.glob("*.log") for line in path.read_text().splitlines()
            ]
            found = [line for line in lines if text in line]
            if found:
                return found[0].partition(" ")[2]
            await asyncio.sleep(0.01)


async def test_removal_answers_while_a_call_under_way_runs_on_to_its_end(
    start: Start, bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client waits a minute for its removal; a call may take ten."""
    monkeypatch.setattr("gateway.providers.embedded.provider.DELETE_SECONDS", 0.0)
    build(bundles, "one", WAITS)
    provider = await start()
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    running = asyncio.create_task(call(replica.address, b"wait"))
    await call(replica.address)
    await provider.delete(FunctionId("one"))
    assert FunctionId("one") not in watcher.now
    assert not running.done()
    (tmp_path / "cache" / "openfaas-fn" / "one" / "enough").touch()
    assert await running == (200, b"waited")
