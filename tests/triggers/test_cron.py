import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.catalog import Catalog
from service.database import Database
from service.gateway_client import GatewayClient
from tests.databases import without_table
from tests.service.fakes import Call, FakeClock, FakeGateway, Reply
from triggers.cron.source import CronSource
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

START = 1_780_000_200.0  # a multiple of ten minutes
MINUTE = 60.0
SettingsOf = Callable[..., TriggersSettings]


class NoPipelines:
    """Stands where pipelines are started; these schedules are of functions only."""

    async def start_for_schedule(self, pipeline: str, key: str) -> str:
        raise AssertionError(pipeline, key)


class Bench:
    """Cron sources on one database, a gateway and a clock."""

    def __init__(self, gateway: FakeGateway, database: Database, settings_of: SettingsOf) -> None:
        self.gateway, self.database, self._settings_of = gateway, database, settings_of
        self.clock = FakeClock(START)

    @asynccontextmanager
    async def cron(self, name: str = "one", **variables: str) -> AsyncIterator[CronSource]:
        """A source that runs and follows the gateway's functions."""
        client = GatewayClient(self.gateway.url, "admin", "x")
        settings = self._settings_of(SLUICE_TRIGGERS_NAME=name, **variables)
        source = CronSource(
            settings, client, self.database, TriggersMetrics(), NoPipelines(), self.clock
        )
        catalog = Catalog(client, 60)
        catalog.subscribe(source.apply)
        await catalog.refresh()
        before = len(self.clock.waited)
        task = asyncio.create_task(source.run())
        await self.clock.waits(before + 1)
        try:
            yield source
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            client.close()

    def annotate(self, function: str = "echo", **annotations: str) -> None:
        named = {name.replace("_", "."): text for name, text in annotations.items()}
        self.gateway.annotations[function] = {"topic": "cron-function", **named}

    async def states(self, source: CronSource, count: int) -> list[str]:
        """The states of `count` fire times once all have a result, oldest first."""
        async with asyncio.timeout(60):
            while True:
                rows = await source.history(100)
                if len(rows) >= count and all(row["state"] != "claimed" for row in rows):
                    return [str(row["state"]) for row in reversed(rows)]
                await asyncio.sleep(0.005)


@pytest.fixture
def bench(gateway: FakeGateway, database: Database, settings_of: SettingsOf) -> Bench:
    return Bench(gateway, database, settings_of)


async def test_function_is_called_at_its_time_with_the_headers_of_the_contract(
    bench: Bench,
) -> None:
    bench.annotate(schedule="@every 10s")
    async with bench.cron() as source:
        assert bench.gateway.calls == []
        await bench.clock.advance(10)
        assert await bench.states(source, 1) == ["succeeded"]
    (call,) = bench.gateway.calls
    assert (call.function, call.method, call.body) == ("echo.openfaas-fn", "POST", b"")
    assert call.headers["x-topic"] == "cron-function"
    assert call.headers["x-connector"] == "cron-connector"
    assert call.key.endswith(f"/{int(START) + 10}")


async def test_function_that_asks_for_it_is_called_by_the_gateways_queue(bench: Bench) -> None:
    bench.annotate(schedule="@every 10s", com_sluice_cron_async="true")
    async with bench.cron() as source:
        await bench.clock.advance(10)
        assert await bench.states(source, 1) == ["succeeded"]
    assert [call.asynchronous for call in bench.gateway.calls] == [True]


async def test_fire_time_is_called_once_by_two_processes(bench: Bench) -> None:
    bench.annotate(schedule="@every 10s")
    async with bench.cron("one") as one, bench.cron("two"):
        for turn in range(1, 6):
            await bench.clock.advance(10)
            await bench.states(one, turn)
    keys = [call.key for call in bench.gateway.calls]
    assert len(keys) == len(set(keys)) == 5


async def test_fire_time_is_not_called_again_by_a_restarted_process(bench: Bench) -> None:
    bench.annotate(schedule="@every 10s")
    async with bench.cron() as source:
        await bench.clock.advance(10)
        await bench.states(source, 1)
    async with bench.cron() as source:
        await bench.clock.advance(10)
        await bench.states(source, 2)
    assert len({call.key for call in bench.gateway.calls}) == len(bench.gateway.calls) == 2


async def test_claim_without_result_is_called_by_the_restarted_process(bench: Bench) -> None:
    async def hang(_: Call) -> Reply:
        await asyncio.Event().wait()
        return 200, None

    bench.gateway.functions["slow"] = hang
    bench.annotate("slow", schedule="@every 10s")
    async with bench.cron():
        await bench.clock.advance(10)
        await bench.gateway.until(lambda: len(bench.gateway.calls) == 1)
    bench.gateway.functions["slow"] = bench.gateway.functions["echo"]
    async with bench.cron() as source:
        assert await bench.states(source, 1) == ["succeeded"]
    assert len({call.key for call in bench.gateway.calls}) == 1


@pytest.mark.parametrize(("misfire", "called"), [("skip", 0), ("run-once", 1), ("backfill", 3)])
async def test_missed_times_are_made_up_for_by_policy(
    bench: Bench, misfire: str, called: int
) -> None:
    bench.annotate(schedule="@every 10m", com_sluice_cron_misfire=misfire)
    async with bench.cron():
        pass
    bench.clock.now += 35 * MINUTE
    async with bench.cron() as source:
        await bench.states(source, max(called, 1))
        history = await source.history(10)
    assert len(bench.gateway.calls) == called
    assert [row["state"] for row in history] == (["succeeded"] * called or ["skipped"])


async def test_database_that_fails_is_asked_again_and_no_fire_time_is_lost(
    bench: Bench, tmp_path: Path
) -> None:
    bench.annotate(schedule="@every 10s", com_sluice_cron_misfire="run-once")
    async with bench.cron() as source:
        with without_table(tmp_path / "triggers.sqlite", "cron_fire"):
            await bench.clock.advance(10)
            assert bench.gateway.calls == []
        await bench.clock.advance(5)
        assert await bench.states(source, 1) == ["succeeded"]
    (call,) = bench.gateway.calls
    assert call.key.endswith(f"/{int(START) + 10}")


async def test_backfill_is_bounded(bench: Bench) -> None:
    bench.annotate(schedule="@every 1m", com_sluice_cron_misfire="backfill")
    async with bench.cron():
        pass
    bench.clock.now += 600.5 * MINUTE
    async with bench.cron(SLUICE_TRIGGERS_CRON_BACKFILL="4") as source:
        assert await bench.states(source, 4) == ["succeeded"] * 4


async def test_schedule_that_is_new_makes_up_for_nothing(bench: Bench) -> None:
    bench.annotate(schedule="@every 1m", com_sluice_cron_misfire="backfill")
    async with bench.cron() as source:
        assert await source.history(10) == []


async def test_failed_call_is_recorded_with_status_and_words(bench: Bench) -> None:
    async def fail(_: Call) -> Reply:
        return 500, b"no disk"

    bench.gateway.functions["bad"] = fail
    bench.annotate("bad", schedule="@every 10s")
    async with bench.cron() as source:
        await bench.clock.advance(10)
        assert await bench.states(source, 1) == ["failed"]
        (row,) = await source.history(10)
    assert (row["status"], row["error"]) == (500, "no disk")


async def test_gateway_that_is_away_is_called_again_until_it_is_back(bench: Bench) -> None:
    bench.annotate(schedule="@every 10s")
    async with bench.cron() as source:
        await bench.gateway.stop()
        await bench.clock.advance(10)
        await bench.gateway.until(lambda: any(0.1 <= wait <= 0.2 for wait in bench.clock.waited))
        await bench.gateway.start()
        bench.clock.push(1)
        assert await bench.states(source, 1) == ["succeeded"]
    assert len(bench.gateway.calls) == 1


async def test_history_is_bounded_and_forgetting_repeats_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    bench.annotate(schedule="@every 10s", com_sluice_cron_misfire="backfill")
    async with bench.cron(SLUICE_TRIGGERS_CRON_HISTORY="2") as source:
        for turn in range(1, 5):
            await bench.clock.advance(10)
            await bench.states(source, turn)
        await bench.states(source, 4)
        await source._store.forget_old(2)
        assert len(await source.history(10)) == 2
    async with bench.cron():
        pass
    assert len(bench.gateway.calls) == 4


async def test_bad_schedule_is_told_and_harms_no_other(bench: Bench) -> None:
    bench.annotate(schedule="nonsense; @every 10s")
    async with bench.cron() as source:
        await bench.clock.advance(10)
        assert await bench.states(source, 1) == ["succeeded"]
        assert [one.target for one in source.bad] == ["echo.openfaas-fn"]


async def test_schedule_of_a_removed_function_ends(bench: Bench) -> None:
    bench.annotate(schedule="@every 10s")
    async with bench.cron() as source:
        source.apply([])
        await bench.clock.waits(2)
        await bench.clock.advance(60)
        assert await source.history(10) == []
