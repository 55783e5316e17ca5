"""The platform that torture tests have to themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.cli.client import GatewayClient
from testbed.platform import live_platform
from tests.e2e.conftest import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with live_platform(tmp_path / ".sluice") as platform:
        password = platform.password_file.read_text().strip()
        with platform.client() as http, GatewayClient(platform.url, ("admin", password)) as api:
            yield Stage(platform, http, api)
