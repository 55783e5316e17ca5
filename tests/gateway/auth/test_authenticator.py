import base64
import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from gateway.auth.authenticator import ADMIN, FUNCTION, Auth, FailureLimit
from gateway.auth.credentials import Credentials, ensure, read
from gateway.types.errors import SluiceError

STRONG = Credentials(b"admin", b"p" * 43, b"payload-key", b"registry-token-value")
WEAK = Credentials(b"admin", b"hunter2", b"", b"")


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_credentials_are_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "secrets"
    first = ensure(folder)
    assert ensure(folder) == first
    assert first.user == b"admin"
    assert len(first.password) == 43
    assert len({first.password, first.payload_secret, first.registry_token}) == 3
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["basic-auth-password", "basic-auth-user", "payload-secret", "registry-token"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())


def test_credentials_of_the_operator_are_kept_and_trimmed(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-password").write_text("  chosen by hand \n\n")
    assert ensure(tmp_path).password == b"chosen by hand"


def test_credentials_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ensure(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_credentials_empty_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-password").write_text(" \n")
    with pytest.raises(SluiceError, match="basic-auth-password: expected a secret"):
        ensure(tmp_path)


def test_credentials_mounted_without_builder_key_lets_nobody_build(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-user").write_text("admin")
    (tmp_path / "basic-auth-password").write_text("secret")
    auth = Auth(read(tmp_path))
    digest = hmac.new(b"", b"body", hashlib.sha256).digest()
    assert not auth.signed(digest, b"sha256=" + digest.hex().encode())
    assert auth.identify(b"Bearer ") is None


def test_credentials_mounted_without_password_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "basic-auth-user").write_text("admin")
    with pytest.raises(SluiceError, match="basic-auth-password: cannot read it"):
        read(tmp_path)


def test_credentials_do_not_show_in_repr() -> None:
    assert "p" * 43 not in repr(STRONG)


def test_identify_right_password_is_admin() -> None:
    auth = Auth(STRONG)
    assert auth.identify(basic(b"admin", b"p" * 43)) is ADMIN
    assert auth.identify(basic(b"admin", b"p" * 43).replace(b"Basic", b"bASIC")) is ADMIN


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Basic",
        b"Basic !!!!",
        b"Basic YQ",
        b"Bearer ",
        b"Bearer wrong",
        b"Digest x",
        b"Basic " + b"A" * 9000,
        basic(b"admin", b""),
        basic(b"admin", b"p" * 42),
        basic(b"root", b"p" * 43),
        basic(b"admin:" + b"p" * 43, b""),
        b"Bearer " + base64.b64encode(b"admin:" + b"p" * 43),
    ],
)
def test_identify_anything_else_is_nobody(header: bytes | None) -> None:
    assert Auth(STRONG).identify(header) is None


def test_identify_registry_token_is_a_function() -> None:
    assert Auth(STRONG).identify(b"Bearer registry-token-value") is FUNCTION
    assert Auth(STRONG, enabled=False).identify(b"Bearer registry-token-value") is FUNCTION


@pytest.mark.parametrize("header", [None, b"Bearer ", b"Basic bogus", basic(b"a", b"b")])
def test_identify_with_auth_off_lets_everybody_in(header: bytes | None) -> None:
    assert Auth(STRONG, enabled=False).identify(header) is ADMIN


def test_identify_guessing_a_short_password_is_stopped_until_time_passes() -> None:
    clock = Clock()
    auth = Auth(WEAK, failures=FailureLimit(burst=3, per_second=1, clock=clock))
    for _ in range(4):
        assert auth.identify(basic(b"admin", b"wrong"), "10.0.0.9:1000") is None
    assert auth.retry_after("10.0.0.9:2000") == pytest.approx(1.0)
    assert auth.identify(basic(b"admin", b"hunter2"), "10.0.0.9:1001") is None
    assert auth.identify(basic(b"admin", b"hunter2"), "10.0.0.8:1001") is ADMIN
    clock.now += 1.0
    assert auth.identify(basic(b"admin", b"hunter2"), "10.0.0.9:1002") is ADMIN


def test_identify_owner_of_a_long_password_is_never_locked_out() -> None:
    auth = Auth(STRONG, failures=FailureLimit(burst=1, per_second=1, clock=Clock()))
    for _ in range(9):
        auth.identify(basic(b"admin", b"wrong"), "127.0.0.1:1")
    assert auth.retry_after("127.0.0.1:1") > 0
    assert auth.identify(basic(b"admin", b"p" * 43), "127.0.0.1:2") is ADMIN


def test_failure_limit_forgets_the_oldest_caller_when_full() -> None:
    limit = FailureLimit(burst=0, per_second=0.001, callers=2, clock=Clock())
    for caller in ("a", "b", "c"):
        limit.record(caller)
    assert limit.retry_after("a") == 0
    assert limit.retry_after("c") > 0


def test_signed_accepts_only_the_hmac_of_the_body() -> None:
    auth = Auth(STRONG)
    mac = auth.body_hmac()
    mac.update(b"context")
    good = b"sha256=" + hmac.new(b"payload-key", b"context", "sha256").hexdigest().encode()
    assert auth.signed(mac.digest(), good)
    for bad in (None, b"", good[7:], good[:-1], good.upper(), b"sha1=" + good[7:]):
        assert not auth.signed(mac.digest(), bad)
