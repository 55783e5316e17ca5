from pathlib import Path

import pytest

from sluice.settings import SettingError
from triggers.settings import TriggersSettings


def test_paths_default_to_the_data_folder(tmp_path: Path) -> None:
    settings = TriggersSettings.load({"SLUICE_DATA_DIR": str(tmp_path)})
    assert settings.database_url == f"sqlite:///{tmp_path}/triggers.sqlite"
    assert settings.socket_path == tmp_path / "run" / "triggers.sock"
    assert settings.lock_path == tmp_path / "run" / "triggers.sock.lock"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("10.0.0.7", "http://10.0.0.7:81"),
    ],
)
def test_gateway_is_found_where_it_listens(host: str, url: str) -> None:
    settings = TriggersSettings.load({"SLUICE_HOST": host, "SLUICE_PORT": "81"})
    assert settings.gateway_url == url


@pytest.mark.parametrize("name", ["RUNS_AT_ONCE", "CALLS_AT_ONCE", "REBUILD_INTERVAL", "LEASE"])
def test_amount_without_which_nothing_would_run_is_not_zero(name: str) -> None:
    with pytest.raises(SettingError, match=f"SLUICE_TRIGGERS_{name}='0'"):
        TriggersSettings.load({f"SLUICE_TRIGGERS_{name}": "0"})


def test_gateway_without_http_is_refused() -> None:
    with pytest.raises(SettingError, match="an http:// URL"):
        TriggersSettings.load({"SLUICE_TRIGGERS_GATEWAY_URL": "gateway:8080"})


def test_credentials_that_are_missing_are_named(tmp_path: Path) -> None:
    settings = TriggersSettings.load({"SLUICE_DATA_DIR": str(tmp_path)})
    with pytest.raises(SettingError, match="basic-auth-user"):
        settings.credentials()


def test_misspelt_variable_is_refused_with_the_names_of_pipelines_too() -> None:
    with pytest.raises(SettingError, match=r"RUN_AT_ONCE='2': expected one of .*RUNS_AT_ONCE"):
        TriggersSettings.load({"SLUICE_TRIGGERS_RUN_AT_ONCE": "2"})


def test_settings_of_pipelines_are_read_with_those_of_the_triggers() -> None:
    settings = TriggersSettings.load({"SLUICE_TRIGGERS_RUNS_AT_ONCE": "2"})
    assert settings.pipelines.runs_at_once == 2
