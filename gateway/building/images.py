"""Image names: their grammar, and the canonical form under which a build is kept."""

import re
from typing import Final

from gateway.types.errors import InvalidRequestError

# The grammar of image references as container tools define it: host, path components, tag.
HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
REFERENCE: Final = re.compile(rf"(?P<name>{HOST}{PART}(?:/{PART})*)(?::(?P<tag>{TAG}))?")
LONGEST_NAME: Final = 255
DEFAULT_TAG: Final = "latest"


def canonical_image(image: str) -> str:
    """The image's name with its tag, `:latest` where none was written.

    Raises InvalidRequestError when the name breaks the grammar or names a digest, which only a
    build can decide.
    """
    text = image.strip()
    if "@" in text:
        raise InvalidRequestError(f"image {text!r}: expected NAME[:TAG] without a digest")
    match = REFERENCE.fullmatch(text)
    if match is None or len(match["name"]) > LONGEST_NAME:
        raise InvalidRequestError(
            f"image {text[:300]!r}: expected [HOST[:PORT]/]NAME[:TAG], the name in lower-case "
            "letters, digits and single '.', '_', '-' or '/' between them"
        )
    return f"{match['name']}:{match['tag'] or DEFAULT_TAG}"
