"""Starts of replicas: from warm processes, from a zygote that dies, and reasons of failed ones."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.providers.embedded import EmbeddedProvider
from gateway.providers.embedded.bundles import Bundles
from gateway.providers.embedded.processes import family
from gateway.types.function import FunctionDeployment, FunctionStatus, ReplicaState, Resources
from gateway.types.ids import FunctionId
from testbed.embedded import HELLO, PATIENCE, Watcher, asked, build, call, make_bundles, settings_of

ONE = FunctionId("one")
# An intermediate process and the replica in its namespaces.
PROCESSES = 2
HOG = "def handle(event, context):\n    return str(len(bytearray(b'x' * (96 << 20))))\n"
GIVES_UP = """
import os
def handle(event, context):
    print("cannot go on: the tea is out", flush=True)
    os._exit(3)
"""
STARTS_A_COMMAND = """
import asyncio
async def handle(event, context):
    command = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    answer, _ = await command.communicate(event.body + b"ran")
    return answer
"""
ENVIRONMENT = (
    "import json, os\ndef handle(event, context):\n    return json.dumps(dict(os.environ))\n"
)


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return make_bundles(tmp_path)


@pytest.fixture
async def provider(tmp_path: Path, bundles: Bundles) -> AsyncIterator[EmbeddedProvider]:
    started = EmbeddedProvider(settings_of(tmp_path), bundles)
    await started.start()
    yield started
    await started.close()


async def warm_process_of(zygote: int, replicas: int) -> set[int]:
    """The processes below a zygote once a warm process is among them."""
    async with asyncio.timeout(PATIENCE):
        # The kernel tells nobody of a grandchild: looked for until it is there.
        while len(found := set(family(zygote)) - {zygote}) < PROCESSES * (replicas + 1):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    return found


async def beside_a_warm_process(
    provider: EmbeddedProvider, deployment: FunctionDeployment
) -> tuple[Watcher, int, set[int]]:
    """Deploy `one`; its watcher, zygote and the processes below that, a warm one among them."""
    watcher = Watcher(provider)
    await provider.deploy(deployment)
    await watcher.ready("one")
    (zygote,) = provider.zygote_processes()
    return watcher, zygote, await warm_process_of(zygote, replicas=1)


def failed_before_ready(watcher: Watcher) -> set[str]:
    """Replicas that were seen to fail and never to be ready."""
    seen = [
        replica
        for event in watcher.events
        if isinstance(event, FunctionStatus)
        for replica in event.running
    ]
    ready = {replica.id for replica in seen if replica.state is ReplicaState.READY}
    return {replica.id for replica in seen if replica.state is ReplicaState.FAILED} - ready


async def test_next_start_takes_the_process_that_was_made_before_it(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    build(bundles, "one", HELLO)
    watcher, zygote, before = await beside_a_warm_process(
        provider, asked("one", limits=Resources(memory="64Mi"))
    )
    await provider.scale(ONE, 2)
    both = await watcher.ready("one", 2)
    assert [await call(each.address) for each in both] == [(200, b"hello")] * 2
    assert before <= set(family(zygote)), "the second replica is not one of those there were"


async def test_replica_of_a_warm_process_survives_the_commands_it_starts(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    """It ended by SIGSEGV: specializing closed the descriptors of libuv, which had been used."""
    build(bundles, "one", STARTS_A_COMMAND)
    watcher, _, _ = await beside_a_warm_process(provider, asked("one"))
    await provider.scale(ONE, 2)
    both = await watcher.ready("one", 2)
    assert [await call(each.address) for each in both] == [(200, b"ran")] * 2


async def test_warm_process_keeps_the_memory_limit_of_the_function_that_takes_it(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    build(bundles, "one", HELLO)
    build(bundles, "hog", HOG)
    watcher, _, _ = await beside_a_warm_process(
        provider, asked("one", limits=Resources(memory="512Mi"))
    )
    await provider.deploy(asked("hog", limits=Resources(memory="64Mi")))
    (hog,) = await watcher.ready("hog")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call(hog.address)
    assert (await watcher.failed("hog")).reason.startswith("memory limit 64Mi exceeded: used ")


async def test_warm_process_of_a_start_that_is_called_off_leaves_nothing(
    tmp_path: Path, bundles: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    provider = EmbeddedProvider(settings_of(tmp_path), bundles)
    await provider.start()
    build(bundles, "one", HELLO)
    watcher, zygote, before = await beside_a_warm_process(
        provider, asked("one", limits=Resources(memory="64Mi"))
    )
    await provider.scale(ONE, 2)
    await provider.scale(ONE, 1)
    (first,) = await watcher.ready("one")
    assert await call(first.address) == (200, b"hello")
    await provider.close()
    assert not set(family(zygote)) & before
    assert "control group left" not in caplog.text


async def test_warm_process_ends_with_the_provider(tmp_path: Path, bundles: Bundles) -> None:
    provider = EmbeddedProvider(settings_of(tmp_path), bundles)
    await provider.start()
    build(bundles, "one", HELLO)
    _, _, found = await beside_a_warm_process(provider, asked("one"))
    watched = [os.pidfd_open(pid) for pid in found]
    await provider.close()
    for descriptor in watched:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, ended.set)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_start_right_after_the_zygote_was_killed_fails_for_no_caller(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    """A call was answered 503 though a successor of the zygote was on its way."""
    build(bundles, "one", HELLO)
    watcher, zygote, _ = await beside_a_warm_process(provider, asked("one"))
    await provider.scale(ONE, 0)
    await watcher.ready("one", 0)
    os.kill(zygote, signal.SIGKILL)
    await provider.scale(ONE, 1)
    (replica,) = await watcher.ready("one")
    assert await call(replica.address) == (200, b"hello")
    assert not failed_before_ready(watcher)


async def test_request_on_its_way_to_a_zygote_that_dies_is_made_again(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    build(bundles, "one", HELLO)
    watcher, zygote, _ = await beside_a_warm_process(provider, asked("one"))
    os.kill(zygote, signal.SIGSTOP)
    await provider.scale(ONE, 3)
    # The warm process becomes the second; the zygote does not respond to the request for a third.
    states = [ReplicaState.READY, ReplicaState.READY, ReplicaState.STARTING]
    await watcher.until(
        lambda: (
            sorted(each.state.value for each in watcher.status("one").running)
            == sorted(state.value for state in states)
        )
    )
    os.kill(zygote, signal.SIGKILL)
    await watcher.until(lambda: provider.zygote_processes() not in ([], [zygote]))
    await watcher.ready("one", 3)
    assert not failed_before_ready(watcher)


async def test_reason_of_a_replica_that_exits_ends_with_the_last_line_it_wrote(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    build(bundles, "one", GIVES_UP)
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await call(replica.address)
    reason = (await watcher.failed("one")).reason
    assert reason == "exited with code 3: cannot go on: the tea is out"


async def test_module_path_that_hides_the_standard_library_is_named_as_the_reason(
    provider: EmbeddedProvider, bundles: Bundles, tmp_path: Path
) -> None:
    build(bundles, "one", HELLO)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "typing.py").write_text("raise RuntimeError('not the real one')\n")
    watcher = Watcher(provider)
    await provider.deploy(asked("one", env_vars={"PYTHONPATH": str(tmp_path / "path")}))
    reason = (await watcher.failed("one")).reason
    assert reason == (
        "its interpreter does not start with envVars PYTHONPATH: RuntimeError: not the real one"
    )


async def test_python_home_of_a_function_is_its_own_affair(
    provider: EmbeddedProvider, bundles: Bundles
) -> None:
    build(bundles, "one", ENVIRONMENT)
    watcher = Watcher(provider)
    await provider.deploy(asked("one", env_vars={"PYTHONHOME": "/nowhere"}))
    (replica,) = await watcher.ready("one")
    _, body = await call(replica.address)
    assert json.loads(body)["PYTHONHOME"] == "/nowhere"
