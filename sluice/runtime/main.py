"""`serve` runs one replica; importing this module starts nothing and loads nothing heavy.

A zygote imports it before it forks, so it must start no thread and no loop.
"""

import os
import sys
from collections.abc import Mapping

from sluice.launch import STATUS_FD_VARIABLE
from sluice.runtime.serving.status import StatusPipe
from sluice.runtime.settings import handler_environ, load_settings
from sluice.settings import SettingError

BAD_SETTING = 2


def preload() -> None:
    """Import all that serving needs, so that forks share it; starts no thread."""
    from sluice.runtime import replica  # noqa: F401, PLC0415 - heavy, see the module


def serve(environ: Mapping[str, str]) -> int:
    """Serve the function that `environ` describes until SIGTERM; returns the exit code.

    0 after a drain, 1 when the function cannot be served, 2 for an invalid setting. Takes the
    process over: os.environ becomes `environ` without the runtime's own variables, signals and
    logging are set up. Exits instead of returning when a handler's thread cannot be stopped.
    """
    environ = dict(environ)
    try:
        settings = load_settings(environ)
    except SettingError as error:
        _announce(environ, str(error))
        return BAD_SETTING
    os.environ.clear()
    os.environ.update(handler_environ(environ))
    from sluice.runtime.replica import Replica  # noqa: PLC0415 - heavy, see the module

    return Replica(settings).run()


def _announce(environ: Mapping[str, str], reason: str) -> None:
    """Report why nothing is served, on stderr and on the status pipe."""
    sys.stderr.write(f"{reason}\n")
    descriptor = environ.get(STATUS_FD_VARIABLE, "")
    if descriptor.isdecimal():
        try:
            StatusPipe(int(descriptor)).failed(reason)
        except OSError:
            sys.stderr.write(f"{STATUS_FD_VARIABLE}={descriptor!r} is not an open descriptor\n")
