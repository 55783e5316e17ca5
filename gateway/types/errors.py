"""What can go wrong in the gateway; api/ and dataplane.py give each its status."""

import errno
from typing import Final

# What the system says where a disk, or a user's share of it, is full.
DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SluiceError(Exception):
    """An error whose text may be shown to a caller: it names what was wrong and holds no secret."""


class InvalidRequestError(SluiceError):
    """The caller's input does not fit: 400."""


class NotFoundError(SluiceError):
    """The function, secret, namespace or image named does not exist: 404."""


class AlreadyExistsError(SluiceError):
    """Something of that name exists already: 409."""


class ForbiddenError(SluiceError):
    """The caller is known but may not do this: 403."""


class NotSupportedError(SluiceError):
    """The provider cannot do what was asked: 501."""


class UnavailableError(SluiceError):
    """Nothing can serve the call now, a later try may succeed: 503."""


class DiskFullError(SluiceError):
    """What was to be kept does not fit on the disk, and nothing was: 507."""


class OverloadedError(SluiceError):
    """A bound of concurrency or queue length is reached: 429."""


class DeadlineExceededError(SluiceError):
    """No answer within the function's timeout: 504."""


class UpstreamError(SluiceError):
    """The replica broke the call off or did not speak HTTP: 502."""
