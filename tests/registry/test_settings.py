from pathlib import Path

import pytest

from registry.settings import RegistrySettings, read_settings
from sluice.settings import SettingError, rows


def test_paths_default_to_the_data_folder(tmp_path: Path) -> None:
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path)})
    assert settings.database_url == f"sqlite:///{tmp_path}/registry/registry.sqlite"
    assert settings.artifacts_dir == tmp_path / "registry" / "artifacts"
    assert settings.socket_path == tmp_path / "run" / "registry.sock"


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "many"])
def test_share_outside_0_to_1_is_refused(value: str) -> None:
    with pytest.raises(SettingError, match="a share from 0 to 1"):
        read_settings({"SLUICE_REGISTRY_REJECT_SHARE": value})


@pytest.mark.parametrize("name", ["INGEST_AT_ONCE", "INGEST_THREADS", "DATASET_BYTES"])
def test_amount_without_which_no_upload_would_end_is_not_zero(name: str) -> None:
    with pytest.raises(SettingError, match=f"SLUICE_REGISTRY_{name}='0'"):
        read_settings({f"SLUICE_REGISTRY_{name}": "0"})


def test_every_setting_is_named_once_and_explained() -> None:
    found = rows(RegistrySettings)
    assert len({row.variable for row in found}) == len(found)
    assert all(row.meaning.endswith(".") for row in found)
