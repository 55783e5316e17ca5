"""Where a function runs: the only reader of the variables that the platform sets."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sluice.launch import (
    CACHE_DIR_VARIABLE,
    GATEWAY_URL_VARIABLE,
    SECRETS_DIR,
    SECRETS_DIR_VARIABLE,
)
from sluice.ml.errors import UnavailableError


class RuntimeConfig(NamedTuple):
    """The gateway's URL, the folder of secrets, the folder whose content outlives a replica."""

    gateway_url: str
    secrets: Path
    cache: Path

    def registry_token(self) -> str:
        """The registry's token, read each time because a secret may be replaced.

        Raises UnavailableError where the function was deployed without the secret.
        """
        try:
            return (self.secrets / "registry-token").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UnavailableError(
                "no secret 'registry-token': deploy the function with `secrets: [registry-token]`"
            ) from error


def runtime_config(environ: Mapping[str, str] = os.environ) -> RuntimeConfig:
    """Where this process runs. SLUICE_CACHE_DIR unset: a folder of the temporary one, lost with the
    replica.
    """
    fallback = Path(tempfile.gettempdir()) / "sluice-cache"
    return RuntimeConfig(
        gateway_url=environ.get(GATEWAY_URL_VARIABLE, "http://127.0.0.1:8080"),
        secrets=Path(environ.get(SECRETS_DIR_VARIABLE, SECRETS_DIR)),
        cache=Path(environ.get(CACHE_DIR_VARIABLE, "") or fallback),
    )


def whole_number(name: str, default: int, environ: Mapping[str, str] = os.environ) -> int:
    """The positive integer in variable `name`. Raises ValueError naming it, value and rule."""
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"environment variable {name}: expected a positive integer, got {text!r}")
    return int(text)


def text(name: str, default: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text in variable `name`."""
    return environ.get(name, "") or default
