import pytest

from service.identity import identity_in

NAME = b"x-sluice-identity"


@pytest.mark.parametrize(
    ("headers", "identity"),
    [
        ([(b"host", b"x"), (NAME, b"admin")], "admin"),
        ([(NAME, b"function")], "function"),
        ([(NAME, b"root")], None),
        ([(NAME, b"")], None),
        ([(NAME, b"admin"), (NAME, b"admin")], None),
        ([(NAME, b"function"), (NAME, b"admin")], None),
        ([], None),
    ],
)
def test_identity_is_said_once_and_known(
    headers: list[tuple[bytes, bytes]], identity: str | None
) -> None:
    assert identity_in(headers) == identity
