import pytest

from sluice.settings import own_host


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_host_that_stands_for_every_one_is_reached_by_loopback(host: str) -> None:
    assert own_host(host) == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "gateway"])
def test_host_of_its_own_is_reached_by_its_name(host: str) -> None:
    assert own_host(host) == host
