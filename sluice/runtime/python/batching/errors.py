"""What a caller of a batched function may meet besides the function's own errors.

A handler that lets them through answers the caller with their status and text.
"""

from sluice.runtime.python.event import ResponseError


class BatchError(ResponseError):
    """The batched function broke its contract; the text says how."""

    status = 500


class QueueFullError(ResponseError):
    """More rows wait than the declared bound: the caller may come again."""

    status = 429


class ExpiredError(ResponseError):
    """The call's time was over before its rows ran."""

    status = 504
