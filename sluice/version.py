"""The name of the distribution, and the version that is installed."""

from typing import Final

# `sluice` on the public index is another project: only the import name is ours.
DISTRIBUTION: Final = "sluice-faas"


def installed_version() -> str:
    """The version of the installed distribution, such as 0.1.0."""
    # 10 ms of a process's start, and functions import this module for the name above only.
    from importlib.metadata import version  # noqa: PLC0415

    return version(DISTRIBUTION)
