"""Where a client finds its gateway and its credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sluice.settings import load, own_host, parse_path, parse_port, parse_text, setting


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The variables that `Client` and the command read; arguments of the same meaning win."""

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


@dataclass(frozen=True, slots=True)
class Address:
    """Variables of the platform that tell where its gateway listens."""

    host: str = setting("SLUICE_HOST", "127.0.0.1", parse_text, "Address of the gateway.")
    port: int = setting("SLUICE_PORT", "8080", parse_port, "Port of the gateway.")
    of_functions: str = setting(
        "SLUICE_GATEWAY_URL", "", parse_text, "The gateway's URL as functions reach it."
    )

    @property
    def url(self) -> str:
        """The gateway's URL: in a function the one it was given, else the one on this machine."""
        return self.of_functions or f"http://{own_host(self.host)}:{self.port}"


def gateway_url(settings: ClientSettings, environ: Mapping[str, str]) -> str:
    """The URL that the variables name. Raises SettingError."""
    return settings.gateway or load(Address, environ).url
