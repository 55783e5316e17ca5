"""Checks the bytes of a CSV before it is parsed; errors name the line of an invalid byte.

DuckDB silently accepts some of these (NUL, a quote that is never closed); see
docs/adr/0003-keep-own-registry.md.
"""

import codecs
import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry.datasets.job import LINE_BYTES, RefusedError, shown

CHUNK: Final = 1 << 20
WIDE_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# First bytes of files that cannot be tables.
OTHERS: Final = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or a spreadsheet"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "a spreadsheet or a document of Microsoft Office"),
    (re.compile(rb"%PDF-"), "PDF"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"), "a picture"),
    (re.compile(rb"SQLite format 3\0"), "a SQLite database"),
    (re.compile(rb"\s*<(?:!doctype html|html|\?xml)\b", re.IGNORECASE), "HTML or XML"),
    (re.compile(rb'\s*(?:\[\s*[\[{"]|\{\s*")'), "JSON"),
)


@dataclass(slots=True)
class _Progress:
    """The position of the scan. end: the byte that ends lines in this file."""

    end: bytes
    line: int = 1
    open_line: int = 0
    quoted: bool = False


def scan(path: Path) -> bool:
    """Check every byte; returns whether the file contains a quote. Raises RefusedError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        chunk = file.read(CHUNK)
        _check_start(chunk)
        head = chunk[: 1 << 16]
        progress = _Progress(b"\r" if b"\r" in head and b"\n" not in head else b"\n")
        while chunk:
            _check_chunk(progress, decoder, chunk)
            chunk = file.read(CHUNK)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(progress.line, error.object[0]) from None
    return progress.quoted


def check_quotes(path: Path, delimiter: str) -> None:
    """Raises RefusedError naming the line of a quote that is never closed."""
    csv.field_size_limit(LINE_BYTES)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # A quote inside an unquoted field affects only its row, which DuckDB rejects.
                if "end of data" in str(error) or "field limit" in str(error):
                    raise RefusedError(
                        f"line {line}: a quote that opens there is not closed"
                    ) from None


def _check_start(head: bytes) -> None:
    if not head:
        raise RefusedError("line 1: expected column names, the file is empty")
    for mark, name in WIDE_MARKS:
        if head.startswith(mark):
            raise RefusedError(f"line 1: expected UTF-8, the file starts with the mark of {name}")
    for beginning, name in OTHERS:
        if beginning.match(head.removeprefix(codecs.BOM_UTF8)):
            raise RefusedError(f"expected CSV or Parquet, the file is {name}", 415)


def _check_chunk(progress: _Progress, decoder: codecs.IncrementalDecoder, chunk: bytes) -> None:
    nul = chunk.find(b"\0")
    if nul >= 0:
        line = progress.line + chunk.count(progress.end, 0, nul)
        raise RefusedError(f"line {line}: expected text, got a NUL byte")
    try:
        decoder.decode(chunk)
    except UnicodeDecodeError as error:
        line = progress.line + error.object[: error.start].count(progress.end)
        raise _not_utf8(line, error.object[error.start]) from None
    first = chunk.find(progress.end)
    if progress.open_line + (len(chunk) if first < 0 else first) > LINE_BYTES:
        raise RefusedError(f"line {progress.line}: expected at most {LINE_BYTES} bytes a line")
    last = chunk.rfind(progress.end)
    progress.open_line = progress.open_line + len(chunk) if last < 0 else len(chunk) - last - 1
    progress.line += chunk.count(progress.end)
    progress.quoted = progress.quoted or b'"' in chunk


def _not_utf8(line: int, byte: int) -> RefusedError:
    hint = f"{shown(bytes([byte]).decode('cp1252'))} in Windows-1252" if _cp1252(byte) else "binary"
    return RefusedError(f"line {line}: expected UTF-8, got byte 0x{byte:02x} ({hint})")


def _cp1252(byte: int) -> bool:
    return byte not in {0x81, 0x8D, 0x8F, 0x90, 0x9D}
