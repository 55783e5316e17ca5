from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.registry.serving import serving, settings_for


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings_for(tmp_path)) as connected:
        yield connected
