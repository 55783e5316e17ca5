"""The one log format: a record is a line of key=value, or of JSON.

    time=2026-11-30T04:00:00.123Z level=info logger=gateway msg=ready api=127.0.0.1:8080

Fields come from `extra`, or from the end of a message's template: `"ready api=%s:%d", host, port`
has the message `ready` and the field `api`. A value with a space, a quote, an equals sign or a
control character is quoted as JSON quotes it, so no value can end the line or forge a field.
"""

import json
import logging
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import TextIOWrapper
from typing import Final

FORMATS: Final = ("text", "json")
# What ends a line for some reader of it, or does not show: escaped in both formats.
UNSEEN: Final = "\x7f-\x9f\u2028\u2029"
PLAIN: Final = re.compile(rf"[^\s\"=\x00-\x1f{UNSEEN}]+")
ESCAPED: Final = re.compile(f"[{UNSEEN}]")
STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
FIELD: Final = re.compile(r"([A-Za-z_][\w.-]*)=(\S+)")
PLACEHOLDER: Final = re.compile(r"%(?:%|[-#0 +]*\d*(?:\.\d+)?[A-Za-z])")
EVENT: Final = re.compile(r"event=[\w-]+")
NOT_IN_A_KEY: Final = re.compile(r"[^\w.-]")
TEMPLATES: Final = 1024  # more than the programs have


class RecordFormatter(logging.Formatter):
    """Time, level, logger, msg, the record's fields, the process's, then exception and stack."""

    def __init__(
        self, log_format: str = "text", fields: Mapping[str, object] | None = None
    ) -> None:
        """fields: what every record of this process carries. Raises ValueError."""
        super().__init__()
        self._render = {"text": _text, "json": _json}[parse_log_format(log_format)]
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        message, fields = _message_and_fields(record)
        if message or not fields:
            pairs["msg"] = message
        fields |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        for key, value in (*fields.items(), *self._fields.items()):
            # A field named as one of ours keeps its value, and does not replace ours.
            pairs[key if key not in pairs else f"{key}_"] = value
        if record.exc_info:
            pairs["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            pairs["exception"] = record.exc_text
        if record.stack_info:
            pairs["stack"] = self.formatStack(record.stack_info)
        return self._render(pairs)


def parse_log_format(text: str) -> str:
    """A log format's name. Raises ValueError."""
    if (value := text.strip().lower()) not in FORMATS:
        raise ValueError(f"one of {', '.join(FORMATS)}")
    return value


def configure(
    log_format: str = "text",
    level: str = "info",
    fields: Mapping[str, object] | None = None,
) -> None:
    """Send all logging to stderr, and make both standard streams line buffered.

    level: the least severe level that is written. fields: as `RecordFormatter` takes them.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RecordFormatter(log_format, fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _message_and_fields(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    """The message without the fields that its template ends with, and these fields.

    Only a template is read so, since it is the program's own text; in a message without arguments
    a caller's text may look like a field.
    """
    template, args = record.msg, record.args
    if not isinstance(template, str) or not isinstance(args, tuple | None):
        return record.getMessage(), {}
    if not args:
        if EVENT.fullmatch(template):
            return "", {"event": template.partition("=")[2]}
        return record.getMessage(), {}
    words, count, fields = _split(template)
    if count != len(args):
        return record.getMessage(), {}
    values = iter(args)
    message = _filled(words, values).rstrip(" :,") if words else ""
    return message, {key: _value(piece, values) for key, piece in fields}


@lru_cache(TEMPLATES)
def _split(template: str) -> tuple[str, int, tuple[tuple[str, str], ...]]:
    """The words of a template, how many arguments it takes, and the fields that it ends with."""
    tokens = template.split(" ")
    fields: list[tuple[str, str]] = []
    while tokens and (found := FIELD.fullmatch(tokens[-1])):
        fields.append((found[1], found[2]))
        tokens.pop()
    return " ".join(tokens), _count(template), tuple(reversed(fields))


def _count(template: str) -> int:
    """How many arguments a template takes; -1 where that is not clear."""
    if "*" in template or "%(" in template:
        return -1
    return sum(found != "%%" for found in PLACEHOLDER.findall(template))


def _filled(piece: str, values: Iterator[object]) -> str:
    return piece % tuple(next(values) for _ in range(_count(piece)))


def _value(piece: str, values: Iterator[object]) -> object:
    """A field's value: the number itself where the template does not format it."""
    if piece not in {"%d", "%s"}:
        return _filled(piece, values)
    value = next(values)
    if isinstance(value, int) or (piece == "%s" and isinstance(value, float)):
        return value
    return piece % (value,)


def _text(pairs: Mapping[str, object]) -> str:
    return " ".join(
        f"{NOT_IN_A_KEY.sub('_', key)}={_quoted(str(value))}" for key, value in pairs.items()
    )


def _quoted(text: str) -> str:
    return text if PLAIN.fullmatch(text) else _escaped(json.dumps(text, ensure_ascii=False))


def _json(pairs: Mapping[str, object]) -> str:
    document = {key: _json_value(value) for key, value in pairs.items()}
    return _escaped(json.dumps(document, ensure_ascii=False))


def _json_value(value: object) -> object:
    """`value` where JSON has it, else its text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return value


def _escaped(text: str) -> str:
    return ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
