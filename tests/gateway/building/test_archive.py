import tarfile
from pathlib import Path

import pytest

from gateway.building.archive import ArchiveLimits, Unpacked, unpack
from gateway.building.errors import ArchiveError
from tests.build_contexts import Entry, config, entry, folder, link, write_tar

LIMITS = ArchiveLimits(members=50, member_bytes=10_000, total_bytes=20_000)


def unpacked(tmp_path: Path, entries: list[Entry], mode: str = "w") -> Unpacked:
    tar = write_tar(tmp_path / "context.tar", entries, mode)
    return unpack(tar, tmp_path / "unpacked", LIMITS)


def refusal(tmp_path: Path, *entries: Entry) -> str:
    """The message for a tar that is sound but for `entries`; nothing may be left of it."""
    before = sorted(tmp_path.rglob("*"))
    sound = [folder("context"), entry("context/a.py", b"A = 1\n")]
    with pytest.raises(ArchiveError) as caught:
        unpacked(tmp_path, [*sound, *entries, config()])
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "context.tar"])
    return str(caught.value)


def test_context_is_written_with_plain_modes(tmp_path: Path) -> None:
    parts = unpacked(
        tmp_path,
        [
            folder("context"),
            folder("context/function"),
            entry("context/function/handler.py", b"x", mode=0o6777),
            entry("context/deep/er/data.bin", b"\0\1", mode=0o600),
            config("fn:2"),
            entry("com.openfaas.secrets", b"version: v1"),
        ],
    )
    handler = parts.context / "function" / "handler.py"
    assert handler.read_bytes() == b"x"
    assert handler.stat().st_mode & 0o7777 == 0o755
    assert (parts.context / "deep/er/data.bin").stat().st_mode & 0o7777 == 0o644
    assert b'"fn:2"' in parts.config
    assert parts.secrets == b"version: v1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/evil", "absolute"),
        ("context/../../evil", "'..'"),
        ("..", "'..'"),
        ("context/./x", "plain relative path"),
        ("context//x", "plain relative path"),
        ("context/a\nb", "plain relative path"),
        ("context/a\\b", "plain relative path"),
        ("evil", "under context/"),
        ("contextual/x", "under context/"),
        ("context/" + "n" * 256, "255 bytes"),
        ("context/" + "d/" * 600 + "x", "1024"),
    ],
)
def test_member_with_a_bad_name_is_refused(tmp_path: Path, name: str, words: str) -> None:
    message = refusal(tmp_path, entry(name, b"x"))
    assert words in message
    assert ascii(name[:40]).strip("'") in message


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (link("context/l", "/etc/passwd"), "a symbolic link"),
        (link("context/l", "a.py"), "a symbolic link"),
        (link("context/l", "context/a.py", tarfile.LNKTYPE), "a hard link"),
        (entry("context/l", kind=tarfile.FIFOTYPE), "a named pipe"),
        (entry("context/l", kind=tarfile.CHRTYPE), "a character device"),
        (entry("context/l", kind=tarfile.BLKTYPE), "a block device"),
        (entry("context/l", kind=b"Z"), "unknown type"),
    ],
)
def test_member_that_is_no_file_is_refused(tmp_path: Path, member: Entry, words: str) -> None:
    message = refusal(tmp_path, member)
    assert words in message
    assert "context/l" in message


def test_file_below_a_link_is_not_written_through_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    refusal(tmp_path, link("context/l", str(outside)), entry("context/l/x", b"x"))
    assert list(outside.iterdir()) == []


def test_duplicate_is_refused(tmp_path: Path) -> None:
    assert "'context/a.py' is there twice" in refusal(tmp_path, entry("context/a.py", b"B"))


def test_file_below_a_file_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, entry("context/a.py/b", b"B"))
    assert "'context/a.py' is both a file and a folder" in message


def test_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, entry("context/d/x", b"B"), entry("context/d", b"B"))
    assert "'context/d' is both a file and a folder" in message


def test_file_called_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="expected a folder"):
        unpacked(tmp_path, [entry("context", b"x"), config()])


def test_large_member_is_refused_by_its_name(tmp_path: Path) -> None:
    message = refusal(tmp_path, entry("context/big", b"x" * 10_001))
    assert "'context/big' has 10001 bytes, at most 10000" in message


def test_large_context_is_refused(tmp_path: Path) -> None:
    parts = [entry(f"context/part{number}", b"x" * 9_000) for number in range(3)]
    assert "'context/part2' brings the context to 27006 bytes" in refusal(tmp_path, *parts)


def test_many_members_are_refused(tmp_path: Path) -> None:
    assert "more than 50 members" in refusal(
        tmp_path, *(entry(f"context/f{number}") for number in range(60))
    )


def test_sparse_file_is_refused(tmp_path: Path) -> None:
    member, content = entry("context/hole", b"")
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": "99999999999",
    }
    assert "sparse" in refusal(tmp_path, (member, content))


def test_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    tar = tmp_path / "context.tar"
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(folder("context")[0])
        archive.addfile(tarfile.TarInfo("context/caf\xe9"))
    with pytest.raises(ArchiveError, match="not UTF-8"):
        unpack(tar, tmp_path / "unpacked", LIMITS)
    assert not (tmp_path / "unpacked").exists()


def test_name_in_other_letters_is_kept(tmp_path: Path) -> None:
    parts = unpacked(tmp_path, [entry("context/größe.txt", b"1"), config()])
    assert (parts.context / "größe.txt").read_bytes() == b"1"


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_tar_is_refused(tmp_path: Path, mode: str, name: str) -> None:
    with pytest.raises(ArchiveError, match=f"compressed \\({name}\\)"):
        unpacked(tmp_path, [folder("context"), config()], mode)


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\xff" * 2048])
def test_bytes_that_are_no_tar_are_refused(tmp_path: Path, content: bytes) -> None:
    tar = tmp_path / "context.tar"
    tar.write_bytes(content)
    with pytest.raises(ArchiveError, match="not a readable tar"):
        unpack(tar, tmp_path / "unpacked", LIMITS)


def test_tar_that_ends_early_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "whole.tar", [config(), entry("context/a", b"x" * 5_000)])
    (tmp_path / "cut.tar").write_bytes(tar.read_bytes()[:4_000])
    with pytest.raises(ArchiveError, match=r"ends within member|not a readable tar"):
        unpack(tmp_path / "cut.tar", tmp_path / "unpacked", LIMITS)
    assert not (tmp_path / "unpacked").exists()


def test_tar_damaged_between_members_is_refused(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", [folder("context"), config(), entry("context/late", b"x")])
    content = bytearray(tar.read_bytes())
    place = content.rindex(b"context/late")
    content[place] ^= 0xFF
    tar.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged after 2 members"):
        unpack(tar, tmp_path / "unpacked", LIMITS)


def test_negative_size_is_refused(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("context/n").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    (tmp_path / "x.tar").write_bytes(header + bytes(1024))
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "x.tar", tmp_path / "unpacked", LIMITS)


def test_chain_of_long_name_headers_is_refused(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 8
    block = long_name.tobuf(tarfile.GNU_FORMAT) + b"context\0".ljust(512, b"\0")
    (tmp_path / "x.tar").write_bytes(block * 3000 + bytes(1024))
    with pytest.raises(ArchiveError, match="not a readable tar"):
        unpack(tmp_path / "x.tar", tmp_path / "unpacked", LIMITS)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([folder("context")], "no com.openfaas.docker.config"),
        ([config()], "no folder context/"),
        ([folder("context"), entry("com.openfaas.docker.config", b" " * 70_000)], "at most 65536"),
        ([folder("context"), folder("com.openfaas.docker.config")], "expected a file"),
    ],
)
def test_tar_without_its_parts_is_refused(tmp_path: Path, entries: list[Entry], words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        unpacked(tmp_path, entries)


def test_unreadable_tar_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "absent.tar", tmp_path / "unpacked", LIMITS)
    assert list(tmp_path.iterdir()) == []
