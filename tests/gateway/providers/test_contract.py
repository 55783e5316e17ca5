"""What every provider does, whatever it runs functions with.

A new provider joins by a row in PROVIDERS.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.providers import Provider
from gateway.providers.embedded import EmbeddedProvider
from gateway.types.errors import InvalidRequestError, NotFoundError, NotSupportedError
from gateway.types.function import (
    FunctionDeployment,
    FunctionRemoved,
    FunctionStatus,
    LogQuery,
    Namespace,
    ReplicaState,
)
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId
from testbed.embedded import HELLO, Watcher, asked, build, call, make_bundles, settings_of
from tests.fakes import FakeProvider

ABSENT = FunctionId("absent")
IMAGES = ("one", "two", "other")
AT_ZERO = {"com.openfaas.scale.min": "0"}


def embedded(folder: Path) -> Provider:
    bundles = make_bundles(folder)
    for image in IMAGES:
        build(bundles, image, HELLO.replace("hello", image))
    return EmbeddedProvider(settings_of(folder), bundles)


# Makes a provider, not started, that has the images of IMAGES: HTTP servers that answer with 200.
# folder: empty, for its state.
PROVIDERS: dict[str, Callable[[Path], Provider]] = {"embedded": embedded, "fake": FakeProvider}


@pytest.fixture(params=PROVIDERS)
def stopped(request: pytest.FixtureRequest, tmp_path: Path) -> Provider:
    return PROVIDERS[request.param](tmp_path)


@pytest.fixture
async def provider(stopped: Provider) -> AsyncIterator[Provider]:
    await stopped.start()
    yield stopped
    await stopped.close()


async def test_provider_that_was_not_started_can_be_closed(stopped: Provider) -> None:
    await stopped.close()


async def test_provider_says_what_it_is_and_how_it_isolates(provider: Provider) -> None:
    assert provider.name.startswith("sluice-")
    assert provider.orchestration
    assert provider.isolation != "none"


async def test_prune_keeps_what_is_deployed(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one", labels=AT_ZERO))
    # A provider that keeps nothing says so.
    with suppress(NotSupportedError):
        await provider.prune()
    await provider.scale(FunctionId("one"), 1)
    (replica,) = await watcher.ready("one")
    assert (await call(replica.address))[0] == 200


async def test_deploy_starts_a_replica_that_answers(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (replica,) = await watcher.ready("one")
    assert (await call(replica.address))[0] == 200
    status = await provider.status(FunctionId("one"))
    assert (status.replicas, status.available_replicas, status.reason) == (1, 1, "")


async def test_first_count_is_the_least_that_the_label_asks_for(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one", labels={"com.openfaas.scale.min": "2"}))
    await watcher.ready("one", 2)


async def test_function_deployed_at_minimum_zero_starts_no_replica_until_it_is_scaled(
    provider: Provider,
) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one", labels=AT_ZERO))
    status = await provider.status(FunctionId("one"))
    assert (status.replicas, status.running, status.reason) == (0, (), "")
    await provider.scale(FunctionId("one"), 1)
    await watcher.ready("one")


async def test_change_beside_many_functions_at_zero_is_told_of_that_function_alone(
    provider: Provider,
) -> None:
    for number in range(20):
        idle = FunctionId(f"idle-{number}")
        await provider.deploy(FunctionDeployment(idle, "other", labels=AT_ZERO))
    watcher = Watcher(provider)
    assert len(watcher.now) == 20
    watcher.events.clear()
    await provider.deploy(asked("one"))
    await watcher.ready("one")
    await provider.scale(FunctionId("one"), 2)
    await watcher.ready("one", 2)
    assert {event.id for event in watcher.events} == {FunctionId("one")}


async def test_status_repeats_what_was_deployed(provider: Provider) -> None:
    deployment = asked("one", labels={"a": "b"}, annotations={"topic": "t"}, env_vars={"K": "v"})
    await provider.deploy(deployment)
    assert (await provider.status(deployment.id)).deployment == deployment


async def test_unknown_secret_is_refused_and_changes_nothing(provider: Provider) -> None:
    with pytest.raises(InvalidRequestError, match="absent-secret"):
        await provider.deploy(asked("one", secrets=("absent-secret",)))
    assert list(await provider.list(DEFAULT_NAMESPACE)) == []


async def test_list_is_by_name_and_of_one_namespace(provider: Provider) -> None:
    await provider.put_namespace(Namespace("team"))
    await provider.deploy(asked("two"))
    await provider.deploy(asked("one"))
    await provider.deploy(FunctionDeployment(FunctionId("other", "team"), "other"))
    assert [each.id.name for each in await provider.list(DEFAULT_NAMESPACE)] == ["one", "two"]
    assert [each.id.name for each in await provider.list("team")] == ["other"]


async def test_update_readies_the_new_before_the_old_drains(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (old,) = await watcher.ready("one")
    watcher.events.clear()
    await provider.deploy(asked("one", env_vars={"CHANGED": "yes"}))

    def replaced() -> bool:
        running = watcher.status("one").running
        return len(running) == 1 and running[0].id != old.id

    await watcher.until(replaced)
    statuses = [each for each in watcher.events if isinstance(each, FunctionStatus)]
    assert all(status.available_replicas >= 1 for status in statuses)
    seen = [each for status in statuses for each in status.running if each.id == old.id]
    assert ReplicaState.DRAINING in {each.state for each in seen}


async def test_scale_to_zero_and_back(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await watcher.ready("one")
    await provider.scale(FunctionId("one"), 0)
    await watcher.ready("one", 0)
    assert (await provider.status(FunctionId("one"))).replicas == 0
    await provider.scale(FunctionId("one"), 2)
    await watcher.ready("one", 2)


async def test_replica_ids_are_never_used_twice(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    (first,) = await watcher.ready("one")
    await provider.scale(FunctionId("one"), 0)
    await watcher.ready("one", 0)
    await provider.scale(FunctionId("one"), 1)
    (second,) = await watcher.ready("one")
    assert first.id != second.id


async def test_deleted_function_is_removed_for_watchers_and_callers(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await watcher.ready("one")
    await provider.delete(FunctionId("one"))
    assert FunctionRemoved(FunctionId("one")) in watcher.events
    with pytest.raises(NotFoundError):
        await provider.status(FunctionId("one"))


async def test_watch_tells_what_is_there_first_and_nothing_after_its_end(
    provider: Provider,
) -> None:
    first = Watcher(provider)
    await provider.deploy(asked("one"))
    await first.ready("one")
    second = Watcher(provider)
    assert second.status("one") == first.status("one")
    second.end()
    told = len(second.events)
    await provider.scale(FunctionId("one"), 0)
    await first.ready("one", 0)
    assert len(second.events) == told


async def test_absent_function_is_not_found(provider: Provider) -> None:
    with pytest.raises(NotFoundError):
        await provider.status(ABSENT)
    with pytest.raises(NotFoundError):
        await provider.delete(ABSENT)
    with pytest.raises(NotFoundError):
        await provider.scale(ABSENT, 1)
    with pytest.raises(NotFoundError):
        await provider.usage(ABSENT)
    with pytest.raises(NotFoundError):
        await anext(aiter(provider.logs(LogQuery(ABSENT))))


async def test_default_namespace_is_always_there(provider: Provider) -> None:
    assert DEFAULT_NAMESPACE in {each.name for each in await provider.namespaces()}


async def test_namespaces_are_kept_replaced_and_removed(provider: Provider) -> None:
    await provider.put_namespace(Namespace("team", {"a": "1"}))
    await provider.put_namespace(Namespace("team", {"a": "2"}, {"b": "3"}))
    found = {each.name: each for each in await provider.namespaces()}
    assert found["team"] == Namespace("team", {"a": "2"}, {"b": "3"})
    await provider.delete_namespace("team")
    with pytest.raises(NotFoundError):
        await provider.delete_namespace("team")


async def test_namespace_with_functions_stays(provider: Provider) -> None:
    await provider.put_namespace(Namespace("team"))
    await provider.deploy(FunctionDeployment(FunctionId("one", "team"), "one"))
    with pytest.raises(InvalidRequestError):
        await provider.delete_namespace("team")
    assert "team" in {each.name for each in await provider.namespaces()}


async def test_secrets_are_listed_by_name_and_removed(provider: Provider) -> None:
    await provider.put_secret(DEFAULT_NAMESPACE, "beta", b"2")
    await provider.put_secret(DEFAULT_NAMESPACE, "alpha", b"1")
    await provider.put_secret(DEFAULT_NAMESPACE, "alpha", b"3")
    assert list(await provider.secrets(DEFAULT_NAMESPACE)) == ["alpha", "beta"]
    await provider.delete_secret(DEFAULT_NAMESPACE, "alpha")
    with pytest.raises(NotFoundError):
        await provider.delete_secret(DEFAULT_NAMESPACE, "alpha")
    assert list(await provider.secrets(DEFAULT_NAMESPACE)) == ["beta"]


async def test_usage_of_a_running_function_is_not_negative(provider: Provider) -> None:
    watcher = Watcher(provider)
    await provider.deploy(asked("one"))
    await watcher.ready("one")
    usage = await provider.usage(FunctionId("one"))
    assert usage.memory_bytes >= 0
    assert usage.cpu_millicores >= 0
