import pytest

from gateway.queue.callback_targets import CallbackTargets, without_password
from gateway.types.errors import InvalidRequestError

DEFAULT = CallbackTargets("public,loopback")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "93.184.215.14", "2606:4700::1111"])
def test_public_and_loopback_addresses_are_allowed(address: str) -> None:
    assert DEFAULT.allows(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff02::1",
        "::",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
    ],
)
def test_private_link_local_and_hidden_addresses_are_refused(address: str) -> None:
    assert not DEFAULT.allows(address)


def test_networks_are_allowed_by_name() -> None:
    targets = CallbackTargets("10.1.0.0/16, fd00::/8")
    assert targets.allows("10.1.2.3")
    assert targets.allows("fd00::1")
    assert not targets.allows("10.2.0.1")
    assert not targets.allows("93.184.215.14")
    assert not targets.allows("127.0.0.1")


def test_empty_rule_allows_nothing() -> None:
    assert not CallbackTargets("").allows("93.184.215.14")


@pytest.mark.parametrize("rule", ["private", "10.1.0.0/99", "10.1.2.3/8"])
def test_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="public, loopback and networks such as"):
        CallbackTargets(rule)


def test_url_is_taken_apart() -> None:
    target = DEFAULT.parse("https://us%65r:p%40ss@example.com/a/b?c=d")
    assert (target.secure, target.key, target.path) == (True, "example.com:443", b"/a/b?c=d")
    assert target.authorization == b"Basic dXNlcjpwQHNz"
    plain = DEFAULT.parse("http://[::1]:9000")
    assert (plain.secure, plain.host, plain.port, plain.path) == (False, "::1", 9000, b"/")


@pytest.mark.parametrize(
    "url",
    [
        "example.com/x",
        "/x",
        "ftp://example.com",
        "http://",
        "http://h:0/",
        "http://h:99999/",
        "http://h:x/",
        "http://[::1/",
        "http://h/a b",
        "http://h/\r\nx: y",
        "http://h/é",
        "http://h/" + "x" * 3000,
    ],
)
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^X-Callback-Url: "):
        DEFAULT.parse(url)


def test_url_of_a_refused_address_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequestError, match=r"address 169\.254\.169\.254 is not among"):
        DEFAULT.parse("http://169.254.169.254/latest/meta-data")


def test_password_is_not_shown() -> None:
    assert without_password("http://u:p@h:1/x?y") == "http://h:1/x?y"
