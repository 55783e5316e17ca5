import subprocess
import sys
from pathlib import Path

import pytest

from gateway.providers import table
from gateway.providers.embedded import EmbeddedProvider
from gateway.settings import GatewaySettings
from sluice.settings import SettingError
from tests.fakes import FakeProvider


def test_name_of_the_settings_chooses_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeProvider()
    monkeypatch.setitem(table.PROVIDERS, "fake", lambda _settings: made)
    assert table.create(GatewaySettings.load({"SLUICE_PROVIDER": "fake"})) is made


async def test_provider_is_the_embedded_one_unless_another_is_named(tmp_path: Path) -> None:
    provider = table.create(GatewaySettings.load({"SLUICE_DATA_DIR": str(tmp_path)}))
    assert isinstance(provider, EmbeddedProvider)
    await provider.close()


def test_unknown_name_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table.PROVIDERS, "fake", lambda _settings: FakeProvider())
    with pytest.raises(SettingError) as caught:
        table.create(GatewaySettings.load({"SLUICE_PROVIDER": "docker"}))
    assert str(caught.value) == "SLUICE_PROVIDER='docker': expected embedded or fake"


def test_gateway_needs_neither_uv_nor_a_provider_that_was_not_chosen() -> None:
    """What builds and what runs processes is not installed on a cluster's gateway."""
    program = (
        "import sys; sys.modules |= {'uv': None, 'gateway.providers.embedded': None}; "
        "import gateway.__main__, gateway.providers.table"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
