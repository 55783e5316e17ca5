"""The number of modules that a call, a start and a record pass through, which only falls."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.hops import (
    BOUNDS,
    Flow,
    Probe,
    Visit,
    markdown,
    measure_call,
    measure_record,
    measure_start,
    recorded_platform,
)
from bench.stage import Stage
from testbed.kafka import KafkaBroker, kafka_broker

__all__ = ["kafka_broker"]
pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(600),
    # kafka-python leaves sockets to the collector when it reconnects.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket"),
]


@pytest.fixture(scope="module")
def recorded(
    kafka_broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Probe]]:
    """A platform that knows the broker."""
    with recorded_platform(tmp_path_factory.mktemp("hops"), kafka_broker) as recorded:
        yield recorded


def test_call_stays_within_its_hops(recorded: tuple[Stage, Probe]) -> None:
    flow = measure_call(*recorded)
    # What is far below the bound met no handler, no replica or no gateway.
    assert BOUNDS["call"] >= len(flow.hops) >= 5, flow.hops
    assert {visit.process for visit in flow.visits} == {"gateway", "replica"}


def test_record_stays_within_its_hops(
    recorded: tuple[Stage, Probe], kafka_broker: KafkaBroker
) -> None:
    flow = measure_record(*recorded, kafka_broker)
    assert BOUNDS["record"] >= len(flow.hops) >= 5, flow.hops


def test_start_stays_within_its_hops(tmp_path: Path) -> None:
    flow = measure_start(tmp_path)
    assert BOUNDS["start"] >= len(flow.hops) >= 5, flow.hops
    started = {visit.process for visit in flow.visits}
    assert started >= {"gateway", "zygote", "intermediate", "replica"}


def test_module_of_another_thread_or_process_is_no_hop() -> None:
    main = Visit("gateway", "main", "gateway.app", ("serve",))
    again = Visit("replica", "main", "gateway.app", ("serve",))
    thread = Visit("gateway", "other", "gateway.folders", ("publish",))
    zygote = Visit("zygote", "main", "sluice.runtime.launching.zygote", ("main",))
    flow = Flow("call", (main, again, thread, zygote))
    assert flow.hops == ["gateway.app"]
    assert "| 1 | `gateway.app` |" in markdown([flow])
