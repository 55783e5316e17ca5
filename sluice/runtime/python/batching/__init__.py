"""Micro-batches: calls that are in a function at the same time run as one.

from sluice.runtime.python.batching import batch

@batch(max_rows=256, latency="50ms")
def score(rows): ...            # sync or async: as many results as rows, in their order

async def handle(event, context):
    return await score(event.json()["rows"])
"""

from sluice.runtime.python.batching.decorator import Batched, batch
from sluice.runtime.python.batching.errors import BatchError, ExpiredError, QueueFullError

__all__ = ["BatchError", "Batched", "ExpiredError", "QueueFullError", "batch"]
