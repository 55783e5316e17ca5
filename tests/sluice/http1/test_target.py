import pytest

from sluice.http1 import request_parser
from sluice.http1.request_parser import reduce_absolute, split_target


@pytest.mark.parametrize(
    ("raw", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/a/b", b"/a/b", b""),
        (b"/a/b/", b"/a/b/", b""),
        (b"/a?b", b"/a", b"b"),
        (b"/a?", b"/a", b""),
        (b"/a?b?c=/../%zz//", b"/a", b"b?c=/../%zz//"),
        (b"//a///b//", b"/a/b/", b""),
        (b"/%66unction/%78", b"/function/x", b""),
        (b"/a%2Fb%2fc", b"/a%2Fb%2fc", b""),
        (b"/a%20b%3F%25", b"/a%20b%3F%25", b""),
        (b"/%2566", b"/%2566", b""),
        (b"/.well-known/x", b"/.well-known/x", b""),
        (b"/a..b/...", b"/a..b/...", b""),
        (b"/%7Eme", b"/~me", b""),
        (b"/a;b=c", b"/a;b=c", b""),
        (b"*", b"*", b""),
    ],
)
def test_target_is_brought_to_normal_form(raw: bytes, path: bytes, query: bytes) -> None:
    mark = b"?" if b"?" in raw else b""
    assert split_target(raw) == (path + mark + query, path, query)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a",
        b"/..",
        b"/.",
        b"/a/../b",
        b"/a/./b",
        b"/a/..",
        b"/%2e%2e/a",
        b"/a/%2E",
        b"/.%2e/",
        b"/%",
        b"/%4",
        b"/%4g",
        b"/%-1",
        b"/%00",
        b"/a#b",
    ],
)
def test_target_that_could_mislead_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"target|path"):
        split_target(raw)


@pytest.mark.parametrize(
    ("raw", "origin", "authority"),
    [
        (b"http://a/b?c", b"/b?c", b"a"),
        (b"HTTPS://a:8443", b"/", b"a:8443"),
        (b"http://a?b", b"/?b", b"a"),
        (b"http://[::1]:80//c", b"//c", b"[::1]:80"),
    ],
)
def test_absolute_target_is_reduced(raw: bytes, origin: bytes, authority: bytes) -> None:
    assert reduce_absolute(raw) == (origin, authority)


@pytest.mark.parametrize("raw", [b"ftp://a/b", b"http:///b", b"http://u@a/b", b"a:443", b"http:/a"])
def test_other_schemes_and_credentials_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="target"):
        reduce_absolute(raw)


def test_targets_that_a_client_invents_do_not_pile_up() -> None:
    for number in range(3000):
        split_target(b"/made/up/%d" % number)
    split_target(b"/" + b"x" * 5000)
    assert len(request_parser.TARGETS) <= request_parser.KNOWN_TARGETS
    assert max(map(len, request_parser.TARGETS)) <= request_parser.LONGEST_KNOWN_TARGET
