import stat
from pathlib import Path

import pytest

from gateway.providers.embedded.secrets import MOST_BYTES, SecretFiles
from gateway.types.errors import InvalidRequestError, NotFoundError
from gateway.types.ids import FunctionId

FUNCTION = FunctionId("one", "team")


@pytest.fixture
def secrets(tmp_path: Path) -> SecretFiles:
    return SecretFiles(tmp_path / "secrets", tmp_path / "views")


def test_secret_is_a_file_of_its_owner_alone(secrets: SecretFiles, tmp_path: Path) -> None:
    secrets.put("team", "token", b"\x00binary")
    path = tmp_path / "secrets" / "team" / "token"
    assert path.read_bytes() == b"\x00binary"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(secrets.names("team")) == ["token"]
    assert list(secrets.names("other")) == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b", ".hidden", "x" * 254, "a\n", "ä"]
)
def test_name_that_is_no_file_name_is_refused(
    secrets: SecretFiles, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidRequestError, match="secret"):
        secrets.put("team", name, b"x")
    with pytest.raises(InvalidRequestError, match="secret"):
        secrets.delete("team", name)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("namespace", ["", "..", "a/b", "../x", "A"])
def test_namespace_that_is_no_folder_name_is_refused(secrets: SecretFiles, namespace: str) -> None:
    with pytest.raises(InvalidRequestError, match="namespace"):
        secrets.put(namespace, "token", b"x")
    with pytest.raises(InvalidRequestError, match="namespace"):
        secrets.names(namespace)


def test_value_over_the_limit_is_refused(secrets: SecretFiles) -> None:
    secrets.put("team", "token", b"x" * MOST_BYTES)
    with pytest.raises(InvalidRequestError, match=f"got {MOST_BYTES + 1}"):
        secrets.put("team", "token", b"x" * (MOST_BYTES + 1))


def test_view_holds_a_function_s_own_secrets_and_follows_changes(secrets: SecretFiles) -> None:
    for name in ("mine", "other", "later"):
        secrets.put("team", name, name.encode())
    view = secrets.show(FUNCTION, ("mine",))
    assert [path.name for path in view.iterdir()] == ["mine"]
    secrets.put("team", "mine", b"changed")
    secrets.refresh(FUNCTION, "mine")
    assert (view / "mine").read_bytes() == b"changed"
    secrets.refresh(FUNCTION, "other")
    secrets.show(FUNCTION, ("later",))
    assert [path.name for path in view.iterdir()] == ["later"]
    secrets.hide(FUNCTION)
    assert not view.exists()


def test_absent_secret_is_not_found(secrets: SecretFiles) -> None:
    with pytest.raises(NotFoundError, match="token"):
        secrets.delete("team", "token")
    with pytest.raises(NotFoundError, match="token"):
        secrets.show(FUNCTION, ("token",))
    assert list(secrets.missing("team", ("token",))) == ["token"]
