import pytest

from gateway.building.images import canonical_image
from gateway.types.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("fn", "fn:latest"),
        (" fn:0.1 ", "fn:0.1"),
        ("docker.io/me/fn", "docker.io/me/fn:latest"),
        ("localhost:5000/a/b-c__d.e:latest-abc", "localhost:5000/a/b-c__d.e:latest-abc"),
        ("Host.Example/fn", "Host.Example/fn:latest"),
    ],
)
def test_image_gets_its_tag(written: str, canonical: str) -> None:
    assert canonical_image(written) == canonical


@pytest.mark.parametrize(
    "image",
    ["", ":1", "Fn", "a/", "/a", "a//b", "a:", "a:b:c", "a b", "a..b", "-a", "a" * 300,
     "a:" + "t" * 129, "../a", "a@sha256:00", "a\nb", "ä"],
)  # fmt: skip
def test_name_outside_the_rule_is_refused(image: str) -> None:
    with pytest.raises(InvalidRequestError, match="expected"):
        canonical_image(image)
