"""What a caller asks of preprocess."""

from dataclasses import dataclass
from typing import Any

from sluice.ml.fields import Fields, version_text


@dataclass(frozen=True, slots=True)
class PreprocessRequest:
    """The request's fields. columns None: all but the target and `drop`.

    test_size: share of rows held out. seed: of the split. max_categories: of a text column.
    """

    dataset: str
    version: str
    target: str
    task: str | None
    test_size: float
    seed: int
    columns: list[str] | None
    drop: list[str]
    max_categories: int


def read_request(body: dict[str, Any]) -> PreprocessRequest:
    """The request in a JSON object. Raises InvalidInputError naming the field, expected and got."""
    fields = Fields(body)
    request = PreprocessRequest(
        dataset=fields.name("dataset"),
        version=str(
            fields.either("version", "a positive integer or 'latest'", version_text, "latest")
        ),
        target=fields.text("target"),
        task=fields.choice("task", ("classification", "regression"), None),
        test_size=fields.number("test_size", 0.05, 0.5, 0.2),
        seed=fields.integer("seed", 0, 2**32 - 1, 0),
        columns=fields.names("columns", None),
        drop=fields.names("drop", []),
        max_categories=fields.integer("max_categories", 1, 1000, 100),
    )
    fields.done()
    return request
