"""Client: a gateway's functions, calls, datasets, runs, models and pipelines."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sluice.client.calls import Calls
from sluice.client.connection import Connection, basic
from sluice.client.datasets import Datasets
from sluice.client.errors import ClientError
from sluice.client.functions import Functions
from sluice.client.models import Models
from sluice.client.pipelines import Pipelines
from sluice.client.runs import Runs
from sluice.client.settings import ClientSettings, gateway_url
from sluice.transport import Response

WRONG = "the credentials are not those of this gateway"


class Client:
    """Calls of one gateway, synchronous, safe from several threads.

    The standard library is all it needs. Methods raise ClientError; see sluice.client.errors.
    """

    def __init__(  # noqa: PLR0913 (each is a way to name the gateway or its credentials)
        self,
        url: str = "",
        *,
        username: str = "",
        password: str = "",
        password_file: Path | str = "",
        token: str = "",
        timeout: float = 60.0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """url: else OPENFAAS_URL, the URL that a function is given, or SLUICE_HOST and SLUICE_PORT.

        password: else the content of `password_file`, of SLUICE_CLI_PASSWORD_FILE, or of
        secrets/basic-auth-password in the data folder. token: sent instead, such as the secret
        `registry-token` of a function. timeout: seconds without a byte before a call fails.
        environ: variables to read, by default those of the process.
        Raises ValueError for what is no URL, ClientError for a password file that is not there.
        """
        variables = os.environ if environ is None else environ
        settings = ClientSettings.load(variables)
        hint = WRONG
        if token:
            authorization = f"Bearer {token}"
        else:
            found = password or _read_password(settings, password_file)
            authorization = basic(username or settings.username, found) if found else ""
            if not found:
                hint = (
                    f"there is no password in {settings.password_path}: pass password= or"
                    " password_file=, or set SLUICE_CLI_PASSWORD_FILE"
                )
        address = url or gateway_url(settings, variables)
        self._connection = Connection(address, authorization, hint, timeout)
        self.functions = Functions(self._connection)
        self.calls = Calls(self._connection)
        self.datasets = Datasets(self._connection)
        self.runs = Runs(self._connection)
        self.models = Models(self._connection)
        self.pipelines = Pipelines(self._connection)

    @property
    def url(self) -> str:
        """The gateway's URL."""
        return self._connection.url

    def invoke(self, function: str, document: Any = None, **more: Any) -> Response:
        """The response of a function to a JSON document; see `calls.invoke` for the rest."""
        return self.calls.invoke(function, document=document, **more)

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


def _read_password(settings: ClientSettings, file: Path | str) -> str:
    """The password in a file; empty where none was named and the data folder has none."""
    path = Path(file) if file else settings.password_path
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        if not file and not settings.password_file:
            return ""
        raise ClientError(f"password file {path}: {error.strerror}") from error
