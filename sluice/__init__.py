"""The one import name.

    from sluice import Context, Event, batch    # in a function
    from sluice import Client                   # in a notebook or a script

Names are resolved when they are first asked for (PEP 562), so that each import brings only what it
needs: a function that takes an Event loads no client, a script no metrics.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.client import Client, ClientError, StatusError, UnreachableError
    from sluice.runtime.python.batching import BatchError, ExpiredError, QueueFullError, batch
    from sluice.runtime.python.event import BodyError, Context, Event, SecretMissingError

__all__ = [
    "BatchError",
    "BodyError",
    "Client",
    "ClientError",
    "Context",
    "Event",
    "ExpiredError",
    "QueueFullError",
    "SecretMissingError",
    "StatusError",
    "UnreachableError",
    "batch",
]

_MODULES = {
    "BatchError": "sluice.runtime.python.batching",
    "BodyError": "sluice.runtime.python.event",
    "Client": "sluice.client",
    "ClientError": "sluice.client",
    "Context": "sluice.runtime.python.event",
    "Event": "sluice.runtime.python.event",
    "ExpiredError": "sluice.runtime.python.batching",
    "QueueFullError": "sluice.runtime.python.batching",
    "SecretMissingError": "sluice.runtime.python.event",
    "StatusError": "sluice.client",
    "UnreachableError": "sluice.client",
    "batch": "sluice.runtime.python.batching",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (nothing is imported before it is needed)

    try:
        value = getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"sluice.{name} needs {error.name}, which every function's process has;"
            " elsewhere: pip install 'sluice-faas[gateway]'",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
