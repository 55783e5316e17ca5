"""Makes kafka-python's clients so that a failed constructor leaks nothing.

The constructors start a thread, then wait for a broker. One that raises leaves its thread and its
sockets behind (kafka-python 3.0.12), some more for every try while a broker is unavailable.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kafka.net.compat import KafkaNetClient

T = TypeVar("T")


def opened(kind: Callable[..., T], **config: Any) -> T:
    """A client of class `kind`. Raises KafkaError where no broker responds in time."""
    made: list[KafkaNetClient] = []

    def connections(*arguments: Any, **more: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(*arguments, **more))
        return made[-1]

    try:
        return kind(kafka_client=connections, **config)
    except BaseException:
        for client in made:
            client.close()
        raise
