from pathlib import Path

import pytest

from gateway.building.indexes import Indexes, masked, read_indexes


def indexes(tmp_path: Path, config: str = "", **variables: str) -> Indexes:
    """What comes of a pip.conf and variables, on a machine with no other settings."""
    path = tmp_path / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text(config)
    return read_indexes(
        {"HOME": str(tmp_path), **variables}, etc=tmp_path / "etc", prefix=tmp_path / "prefix"
    )


CONFIG = """
[global]
index-url = https://user:word@index.example/simple
extra-index-url =
    https://one.example/simple
    https://two.example/simple
trusted-host = one.example
    two.example:8443
timeout = 12.4
[install]
no-index = yes
[freeze]
index-url = https://other.example/simple
"""


def test_pips_file_is_said_in_uvs_words(tmp_path: Path) -> None:
    found = indexes(tmp_path, CONFIG)
    assert found.environ["UV_DEFAULT_INDEX"] == "https://user:word@index.example/simple"
    assert found.environ["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert found.environ["UV_INSECURE_HOST"] == "one.example two.example:8443"
    assert found.environ["UV_HTTP_TIMEOUT"] == "12"
    assert found.no_index


def test_variable_wins_over_the_file(tmp_path: Path) -> None:
    found = indexes(
        tmp_path, CONFIG, PIP_INDEX_URL="https://env.example/simple", PIP_DEFAULT_TIMEOUT="7"
    )
    assert found.environ["UV_DEFAULT_INDEX"] == "https://env.example/simple"
    assert found.environ["UV_HTTP_TIMEOUT"] == "7"


@pytest.mark.parametrize("place", ["etc", "prefix", "etc/xdg/pip"])
def test_settings_of_machine_and_of_this_python_are_read(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "pip.conf").write_text("[install]\nproxy = http://proxy.example:1\n")
    assert indexes(tmp_path).environ["ALL_PROXY"] == "http://proxy.example:1"


@pytest.mark.parametrize(
    ("variable", "replaced"),
    [
        ("UV_DEFAULT_INDEX", "UV_DEFAULT_INDEX"),
        ("UV_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("UV_EXTRA_INDEX_URL", "UV_INDEX"),
    ],
)
def test_what_uv_was_told_wins_over_pip(tmp_path: Path, variable: str, replaced: str) -> None:
    found = indexes(tmp_path, CONFIG, **{variable: "https://uv.example/simple"})
    assert found.environ[variable] == "https://uv.example/simple"
    assert "index.example" not in found.environ.get("UV_INDEX_URL", "")
    if replaced != variable:
        assert replaced not in found.environ


def test_named_file_is_read_last(tmp_path: Path) -> None:
    named = tmp_path / "mine.conf"
    named.write_text("[global]\nindex_url = https://mine.example/simple\n")
    found = indexes(tmp_path, CONFIG, PIP_CONFIG_FILE=str(named))
    assert found.environ["UV_DEFAULT_INDEX"] == "https://mine.example/simple"


def test_null_device_switches_the_files_off(tmp_path: Path) -> None:
    assert "UV_DEFAULT_INDEX" not in indexes(tmp_path, CONFIG, PIP_CONFIG_FILE="/dev/null").environ


def test_missing_places_are_left_out(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    found = indexes(
        tmp_path,
        PIP_FIND_LINKS=f"{wheels} {tmp_path}/absent https://links.example/x file://{wheels}",
        PIP_CERT=str(tmp_path / "absent.pem"),
    )
    assert found.environ["UV_FIND_LINKS"] == f"{wheels},https://links.example/x,{wheels}"
    assert "SSL_CERT_FILE" not in found.environ


def test_certificates_of_pip_are_used(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    assert indexes(tmp_path, PIP_CERT=str(bundle)).environ["SSL_CERT_FILE"] == str(bundle)


def test_gateways_own_variables_stay_behind(tmp_path: Path) -> None:
    found = indexes(
        tmp_path, SLUICE_X="1", AWS_SECRET_ACCESS_KEY="x", PATH="/bin", https_proxy="http://p:1",
        UV_PYTHON="/evil", UV_INDEX_MINE_PASSWORD="word",
    )  # fmt: skip
    assert found.environ == {
        "HOME": str(tmp_path),
        "PATH": "/bin",
        "https_proxy": "http://p:1",
        "UV_INDEX_MINE_PASSWORD": "word",
    }


def test_broken_file_is_passed_over(tmp_path: Path) -> None:
    assert "UV_DEFAULT_INDEX" not in indexes(tmp_path, "no section\n").environ


def test_other_index_is_another_identity(tmp_path: Path) -> None:
    one = indexes(tmp_path / "a", PIP_INDEX_URL="https://one.example/simple")
    two = indexes(tmp_path / "b", PIP_INDEX_URL="https://two.example/simple")
    assert one.identity != two.identity


def test_credentials_of_urls_are_masked() -> None:
    text = "GET https://user:word@host.example/x and http://token@other.example failed, a@b.example"
    assert masked(text) == (
        "GET https://****@host.example/x and http://****@other.example failed, a@b.example"
    )
