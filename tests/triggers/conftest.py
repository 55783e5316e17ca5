from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.database import Database
from tests.service.fixtures import client, gateway
from triggers.migrations import SCHEMA
from triggers.settings import TriggersSettings

__all__ = ["client", "gateway"]


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., TriggersSettings]:
    def made(**variables: str) -> TriggersSettings:
        return TriggersSettings.load({"SLUICE_DATA_DIR": str(tmp_path), **variables})

    return made


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'triggers.sqlite'}", SCHEMA)
    yield made
    made.close()
