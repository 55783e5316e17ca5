"""Micro-batches: calls that are in a function at the same time run as one.

from runtime.batching import batch

@batch(max_rows=256, latency="50ms")
def score(rows): ...            # sync or async: as many results as rows, in their order

async def handle(event, context):
    return await score(event.json()["rows"])
"""

from runtime.batching.declare import Batched, batch
from runtime.batching.errors import BatchError, ExpiredError, QueueFullError

__all__ = ["BatchError", "Batched", "ExpiredError", "QueueFullError", "batch"]
