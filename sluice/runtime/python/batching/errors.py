"""Errors of a batched function besides its own.

When a handler does not catch them, its caller gets their status and text.
"""

from sluice.runtime.python.event import ResponseError


class BatchError(ResponseError):
    """The batched function broke its contract; the text says how."""

    status = 500


class QueueFullError(ResponseError):
    """max_queue_rows rows wait already: the caller may try again."""

    status = 429


class ExpiredError(ResponseError):
    """The call's deadline passed before its rows ran."""

    status = 504
