"""kafka-python's clients, made so that one that cannot be made leaves nothing behind.

Their constructors start a thread, then wait for a broker. One that raises lets thread and sockets
be (kafka-python 3.0.12): while a broker is away, some of each for every try.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from kafka.net.compat import KafkaNetClient

T = TypeVar("T")


def opened(kind: Callable[..., T], **config: Any) -> T:
    """A client of class `kind`. Raises KafkaError where no broker answers in time."""
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
