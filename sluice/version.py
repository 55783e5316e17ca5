"""The name of the distribution, and the version that is installed."""

import importlib.metadata
from typing import Final

# `sluice` on the public index is another project: only the import name is ours.
DISTRIBUTION: Final = "sluice-faas"


def installed_version() -> str:
    """The version of the installed distribution, such as 0.1.0."""
    return importlib.metadata.version(DISTRIBUTION)
