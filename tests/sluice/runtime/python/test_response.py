import json
from collections.abc import Iterator

import numpy as np
import pytest

from sluice.runtime.python.response import (
    InvalidResponseError,
    Response,
    StreamingResponse,
    encode_item,
    render,
)


def whole(result: object) -> Response:
    reply = render(result)
    assert isinstance(reply, Response)
    return reply


def test_none_is_an_empty_answer() -> None:
    assert whole(None) == Response(200, b"", b"")


def test_text_and_bytes_stay_what_they_are() -> None:
    assert whole("grüezi") == Response(
        200, b"content-type: text/plain; charset=utf-8\r\n", "grüezi".encode()
    )
    assert whole(b"\x00\xff") == Response(
        200, b"content-type: application/octet-stream\r\n", b"\x00\xff"
    )


@pytest.mark.parametrize(
    "value", [[1, 2], {"predictions": [1]}, {}, 3, 1.5, True, {"body": 1, "other": 2}]
)
def test_json_able_value_becomes_json(value: object) -> None:
    reply = whole(value)
    assert reply.lines == b"content-type: application/json\r\n"
    assert json.loads(reply.body) == value


def test_numpy_values_become_json_numbers() -> None:
    value = {
        "predictions": np.array([1, 0], dtype=np.int64),
        "probability": np.float32(0.5),
        "count": np.int64(3),
        "flag": np.bool_(True),
    }
    assert json.loads(whole(value).body) == {
        "predictions": [1, 0],
        "probability": 0.5,
        "count": 3,
        "flag": True,
    }
    assert json.loads(whole(np.eye(2)).body) == [[1.0, 0.0], [0.0, 1.0]]


def test_dict_with_status_body_and_headers_is_an_answer() -> None:
    reply = whole(
        {"statusCode": 201, "body": {"a": 1}, "headers": {"X-A": "b", "Content-Type": "text/x"}}
    )
    assert reply == Response(201, b"x-a: b\r\ncontent-type: text/x\r\n", b'{"a":1}')


def test_dict_body_of_bytes_stays_bytes_and_a_list_becomes_json() -> None:
    assert whole({"statusCode": 200, "body": b"\xff"}).body == b"\xff"
    assert whole({"statusCode": 200, "body": [1]}).body == b"[1]"
    assert whole({"body": "text"}).body == b"text"
    assert whole({"statusCode": "204"}) == Response(204, b"", b"")
    assert whole({"statusCode": np.int64(202)}).status == 202


def test_tuples_are_body_status_headers() -> None:
    assert whole(("no", 404)).status == 404
    assert whole(("x", 200, {"X-A": ["1", "2"]})).lines.startswith(b"x-a: 1\r\nx-a: 2\r\n")
    assert whole(("x", [("x-b", "3")])).lines.startswith(b"x-b: 3\r\n")


def test_framing_headers_of_a_handler_are_left_to_the_server() -> None:
    reply = whole(
        ("x", 200, {"Content-Length": "99", "Transfer-Encoding": "chunked", "Connection": "close"})
    )
    assert reply.lines == b"content-type: text/plain; charset=utf-8\r\n"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (object(), "object is not JSON"),
        ({1, 2}, "set is not JSON"),
        ("a\ud800", "not Unicode at character 1"),
        ({"x": "\ud800"}, "dict is not JSON"),
        ({"x": float("nan")}, "not JSON"),
        (("x", 99), "status 99 came"),
        (("x", 600), "status 600 came"),
        ({"statusCode": "many"}, "status 'many' came"),
        ({"statusCode": None}, "status None came"),
        ((1, 2, 3, 4), r"tuple of \(int, int, int, int\) came"),
        (("x", 200, "headers"), "headers came as str"),
        (("x", 200, {"x y": "1"}), "header name 'x y' came"),
        (("x", 200, {"x": "1\r\nset-cookie: a=b"}), "control character"),
        (("x", 200, {"x": "€"}), "outside latin-1"),
    ],
)
def test_wrong_reply_says_what_came(result: object, said: str) -> None:
    with pytest.raises(InvalidResponseError, match=said):
        render(result)


def test_value_that_contains_itself_is_a_wrong_reply() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidResponseError, match="not JSON"):
        render(loop)


def test_generator_in_any_place_of_a_body_is_streamed() -> None:
    def items() -> Iterator[str]:
        yield "a"

    for result in (items(), (items(), 200), {"statusCode": 200, "body": items()}):
        assert isinstance(render(result), StreamingResponse)
    typed = render({"body": items(), "headers": {"content-type": "text/event-stream"}})
    assert isinstance(typed, StreamingResponse)
    assert typed.typed


def test_streamed_items_are_text_bytes_or_json_lines() -> None:
    assert encode_item("a")[0] == b"a"
    assert encode_item(b"\x00")[0] == b"\x00"
    assert encode_item({"a": 1}) == (b'{"a":1}\n', b"content-type: application/x-ndjson\r\n")
