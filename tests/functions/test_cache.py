import hashlib
import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from tests.functions.contexts import load_function


@pytest.fixture(scope="module")
def module(contexts: Path) -> ModuleType:
    load_function(contexts / "predict", {}, "function_predict_cache")
    return importlib.import_module("function_predict_cache.cache")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_files_used_longest_ago_go_when_the_size_is_reached(
    module: ModuleType, tmp_path: Path
) -> None:
    cache = module.Cache(tmp_path, 2500)
    first, second, third = (bytes([number]) * 1000 for number in range(3))
    for age, content in ((30, first), (20, second)):
        cache.keep(digest(content), content)
        os.utime(tmp_path / "artifacts" / digest(content), (age, age))
    assert cache.artifact(digest(first)) == first
    cache.keep(digest(third), third)
    assert cache.artifact(digest(first)) == first
    assert cache.artifact(digest(second)) is None
    assert cache.artifact(digest(third)) == third
    large = b"x" * 3000
    cache.keep(digest(large), large)
    assert cache.artifact(digest(large)) is None
    assert cache.artifact(digest(third)) == third


def test_no_more_references_are_kept_than_the_limit(module: ModuleType, tmp_path: Path) -> None:
    cache = module.Cache(tmp_path, 1000)
    for number in range(300):
        cache.learn(f"model:{number}", module.Known({"version": number}, ""))
    assert len(list((tmp_path / "references").iterdir())) == 256
    assert cache.known("model:299").body == {"version": 299}


def test_a_folder_that_can_not_be_written_costs_a_log_line(
    module: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = module.Cache(tmp_path / "file", 1000)
    cache.keep(digest(b"a"), b"a")
    cache.learn("m@champion", module.Known({}, ""))
    assert cache.artifact(digest(b"a")) is None
    assert cache.known("m@champion") is None
    cache.forget("m@champion")
    assert "not cached" in caplog.text


def test_a_path_in_a_digest_reads_nothing_outside(module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    cache = module.Cache(tmp_path / "cache", 1000)
    cache.keep(digest(b"a"), b"a")
    assert cache.artifact("../../secret") is None
    assert (tmp_path / "secret").read_bytes() == b"secret"
