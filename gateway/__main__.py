"""`python -m gateway`: run the gateway as the environment says, until a signal."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from typing import Final

import uvloop

from gateway.app import Gateway, serve
from gateway.settings import GatewaySettings
from gateway.types.errors import SluiceError
from sluice import logs
from sluice.migrations import NewerSchemaError
from sluice.settings import SettingError

LOG: Final = logging.getLogger("gateway")
BAD_SETTING: Final = 2
CANNOT_RUN: Final = 1


def main(environ: Mapping[str, str]) -> int:
    """The exit code: 0 after a signal, 1 when it cannot run, 2 for a setting that does not fit."""
    try:
        settings = GatewaySettings.load(environ)
        logs.configure(settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, _ready))
    except SettingError as error:
        return _fail(str(error), BAD_SETTING)
    except (SluiceError, NewerSchemaError) as error:
        return _fail(str(error), CANNOT_RUN)
    return 0


def _ready(gateway: Gateway) -> None:
    settings = gateway.settings
    LOG.info("ready api=%s:%d metrics_port=%d", settings.host, gateway.port, gateway.metrics_port)
    if not settings.basic_auth:
        LOG.warning("basic auth is off: whoever reaches the port may do everything")


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"gateway: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(os.environ))
