"""What every command needs: settings, the gateway's address and credentials, the terminal."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from gateway.settings import GatewaySettings
from sluice.cli.client import GatewayClient
from sluice.cli.errors import CommandError
from sluice.cli.platform import gateway_url
from sluice.cli.settings import CliSettings


@dataclass(frozen=True, slots=True)
class Session:
    """Options of the whole command. gateway: URL given by the user, empty for the default."""

    settings: CliSettings
    gateway: str = ""
    password_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    out: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @property
    def url(self) -> str:
        """The gateway's URL."""
        if self.gateway or self.settings.client.gateway:
            return self.gateway or self.settings.client.gateway
        return gateway_url(GatewaySettings.load(self.environ))

    def client(self, url: str = "") -> GatewayClient:
        """A client of the gateway with the user's credentials."""
        return GatewayClient(url or self.url, (self.settings.client.username, self.password()))

    def password(self) -> str:
        """The gateway's password. Raises CommandError naming the file that was looked for."""
        return read_secret(self.password_file or self.settings.client.password_path).decode()

    def payload_secret(self) -> bytes:
        """The builder's HMAC key. Raises CommandError naming the file that was looked for."""
        return read_secret(self.settings.payload_secret_path)


def read_secret(path: Path) -> bytes:
    """Content of a secret file without the white space around it."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise CommandError(
            f"{path}: {error.strerror}; is the platform started from here?"
        ) from error
