"""What the command reads of its environment, besides what every client does."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from sluice.client.settings import ClientSettings
from sluice.logs import parse_log_format
from sluice.settings import load, parse_duration, parse_text, setting


@dataclass(frozen=True, slots=True)
class CliSettings:
    """The command's table of settings; options of the same meaning win over it.

    client: where the gateway and its credentials are.
    """

    client: ClientSettings = field(default_factory=ClientSettings)
    payload_secret: str = setting(
        "OPENFAAS_PAYLOAD_SECRET",
        "",
        parse_text,
        "File with the builder's HMAC key; empty: secrets/payload-secret in the data folder.",
    )
    log_format: str = setting(
        "SLUICE_LOG_FORMAT",
        "text",
        parse_log_format,
        "Log lines as text (key=value) or json.",
    )
    start_timeout: float = setting(
        "SLUICE_CLI_START_TIMEOUT", "60s", parse_duration, "Time for the platform to be ready."
    )
    ready_timeout: float = setting(
        "SLUICE_CLI_READY_TIMEOUT", "120s", parse_duration, "Time for a function to be ready."
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of `environ`. Raises SettingError."""
        return replace(load(cls, environ), client=ClientSettings.load(environ))

    @property
    def payload_secret_path(self) -> Path:
        """File that holds the builder's HMAC key."""
        if self.payload_secret:
            return Path(self.payload_secret)
        return self.client.data_dir / "secrets" / "payload-secret"
