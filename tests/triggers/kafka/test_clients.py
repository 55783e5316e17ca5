import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from testbed.kafka import collect_sockets
from testbed.platform import free_ports
from tests.triggers.kafka.conftest import LEAKS
from triggers.kafka.clients import opened

pytestmark = [LEAKS, pytest.mark.usefixtures("collected")]


def held() -> tuple[int, int]:
    """Threads of kafka-python's, and open files, of this process."""
    collect_sockets()
    threads = [one for one in threading.enumerate() if one.name.startswith("kafka-io")]
    return len(threads), len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
def test_broker_that_is_away_leaves_no_thread_and_no_file_at_each_try(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # What is logged of an error holds its frames, and those the sockets.
    caplog.set_level(logging.CRITICAL, "kafka")
    (port,) = free_ports(1)
    after: list[tuple[int, int]] = []
    for _ in range(4):
        with pytest.raises(KafkaError):
            opened(kind, bootstrap_servers=f"127.0.0.1:{port}", bootstrap_timeout_ms=100)
        after.append(held())
    # What the first error holds, the next one's replaces. Fewer than before is no leak: a
    # descriptor of an earlier test may be closed meanwhile.
    assert all(threads <= after[0][0] and files <= after[0][1] for threads, files in after[1:]), (
        after
    )
