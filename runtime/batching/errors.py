"""What a caller of a batched function may meet besides the function's own errors."""


class BatchError(Exception):
    """The batched function broke its contract; the text says how."""


class QueueFullError(Exception):
    """More rows wait than the declared bound: answer 429 and let the caller come again."""


class ExpiredError(Exception):
    """The call's time was over before its rows ran: answer 504."""
