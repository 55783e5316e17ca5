"""The entry point of `sluice`: it runs a command and turns failures into a line and a status."""

import sys
from typing import NoReturn

from sluice.cli.errors import CommandError
from sluice.client import ClientError
from sluice.settings import SettingError
from sluice.version import DISTRIBUTION


def run() -> None:
    """Run the command; a failure is one line on stderr and an exit status."""
    try:
        from sluice.cli.commands import app  # noqa: PLC0415 (its libraries may be missing)
    except ModuleNotFoundError as error:
        _leave(
            f"the command needs the module {error.name}:"
            f" pip install '{DISTRIBUTION}[embedded]'; the client works without it",
            1,
        )
    try:
        app(prog_name="sluice")
    except CommandError as error:
        _leave(str(error), error.code)
    except ClientError as error:
        _leave(str(error), 1)
    except SettingError as error:
        _leave(str(error), 2)


def _leave(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"sluice: {message}\n")
    sys.exit(code)
