import pytest

from gateway.providers.embedded.planning import check_requests
from gateway.types.errors import InvalidRequestError
from gateway.types.function import Resources
from testbed.embedded import asked


@pytest.mark.parametrize(
    ("requests", "limits", "text"),
    [
        (
            Resources("65Mi"),
            Resources("64Mi"),
            r"requests.memory: .* limits.memory, .*'64Mi', .*'65",
        ),
        (Resources("", "0.2"), Resources("", "100m"), r"requests.cpu: .* '100m', got '0.2'"),
    ],
)
def test_request_above_the_limit_is_refused(
    requests: Resources, limits: Resources, text: str
) -> None:
    with pytest.raises(InvalidRequestError, match=text):
        check_requests(asked("one", requests=requests, limits=limits))


@pytest.mark.parametrize(
    ("requests", "limits"),
    [
        (None, None),
        (Resources("1Gi"), None),
        (Resources("1Gi"), Resources("", "1")),
        (Resources("64Mi", "100m"), Resources("65536Ki", "0.1")),
    ],
)
def test_request_within_the_limit_is_taken(
    requests: Resources | None, limits: Resources | None
) -> None:
    check_requests(asked("one", requests=requests, limits=limits))
