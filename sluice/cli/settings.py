"""Where the command finds its gateway and its credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sluice.logs import parse_log_format
from sluice.settings import load, parse_duration, parse_path, parse_text, setting


@dataclass(frozen=True, slots=True)
class CliSettings:
    """The command's table of settings; options of the same meaning win over it."""

    gateway: str = setting(
        "OPENFAAS_URL", "", parse_text, "The gateway's URL; empty: the one started from here."
    )
    data_dir: Path = setting(
        "SLUICE_DATA_DIR", ".sluice", parse_path, "Folder of all state, secrets and logs."
    )
    username: str = setting("SLUICE_CLI_USERNAME", "admin", parse_text, "User of the gateway.")
    password_file: str = setting(
        "SLUICE_CLI_PASSWORD_FILE",
        "",
        parse_text,
        "File with the password; empty: secrets/basic-auth-password in the data folder.",
    )
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
        return load(cls, environ)

    @property
    def password_path(self) -> Path:
        """File that holds the password."""
        if self.password_file:
            return Path(self.password_file)
        return self.data_dir / "secrets" / "basic-auth-password"

    @property
    def payload_secret_path(self) -> Path:
        """File that holds the builder's HMAC key."""
        if self.payload_secret:
            return Path(self.payload_secret)
        return self.data_dir / "secrets" / "payload-secret"
