import pytest

from sluice.runtime.launching.sandbox import kernel_version


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc", (6, 18)),
        ("5.14.0-503.el9.x86_64", (5, 14)),
        ("6.1", (6, 1)),
        ("unheard-of", (0, 0)),
    ],
)
def test_kernel_version_is_read_from_its_release(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


def test_kernel_version_of_this_machine_is_known() -> None:
    assert kernel_version() > (2, 6)
