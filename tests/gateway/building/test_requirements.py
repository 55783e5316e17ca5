from importlib.metadata import version
from pathlib import Path

import pytest

from gateway.building.errors import RequirementError
from gateway.building.requirements import Wanted, blamed, read_requirements, runtime_requirements


def read(tmp_path: Path, text: str | bytes, allow_urls: bool = False) -> list[Wanted]:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_requirements(path, "function/requirements.txt", allow_urls)


def test_lines_are_read_with_their_numbers(tmp_path: Path) -> None:
    wanted = read(
        tmp_path,
        "# the model\n\nNumPy>=2,<3  # fast\nscikit_learn [alldeps] ; python_version > '3'\n"
        "six==1.17.0 \\\n    --hash=sha256:00ff\nlast\n",
    )
    assert [(each.name, each.line) for each in wanted] == [
        ("numpy", 3), ("scikit-learn", 4), ("six", 5), ("last", 7),
    ]  # fmt: skip
    assert wanted[0].text == "NumPy<3,>=2"
    assert wanted[2].hashes == {"sha256:00ff"}
    assert str(wanted[0]) == "NumPy<3,>=2 (function/requirements.txt line 3)"


def test_absent_file_asks_for_nothing(tmp_path: Path) -> None:
    assert read_requirements(tmp_path / "absent", "x", allow_urls=False) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r /etc/passwd", "option '-r' is refused"),
        ("-e .", "option '-e' is refused"),
        ("--index-url=https://user:word@evil.example/simple", "option '--index-url' is refused"),
        ("--extra-index-url https://evil.example", "option '--extra-index-url'"),
        ("./wheel.whl", "paths and URLs"),
        ("/etc/passwd", "paths and URLs"),
        ("~/x.whl", "paths and URLs"),
        ("..", "paths and URLs"),
        ("file:///etc/passwd", "paths and URLs"),
        ("https://evil.example/x.whl", "paths and URLs"),
        ("git+https://evil.example/x", "Expected"),
        ("six @ file:///etc/passwd", "direct URLs are refused"),
        ("six @ https://host.example/six.whl", "direct URLs are refused"),
        ("${HOME}", "paths and URLs"),
        ("six==${SECRET}", "paths and URLs"),
        ("six=1", "Expected"),
        ("six==1; nonsense", "Expected"),
        ("six --hash=md5:00", "expected sha256"),
        ("six --config-settings=x", "Expected"),
        ("sub/folder", "Expected"),
    ],
)
def test_line_that_could_reach_elsewhere_is_refused(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, f"six\n{line}\n")
    assert str(caught.value).startswith("function/requirements.txt line 2: ")
    assert words in str(caught.value)
    assert "word@" not in str(caught.value)


def test_direct_url_is_allowed_where_the_operator_says_so(tmp_path: Path) -> None:
    wanted = read(tmp_path, "six @ https://host.example/six.whl", allow_urls=True)
    assert wanted[0].text.replace(" ", "") == "six@https://host.example/six.whl"


@pytest.mark.parametrize(
    "url", ["http://host.example/six.whl", "file:///six.whl", "https://user:word@host.example/s"]
)
def test_direct_url_without_tls_or_with_a_password_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(RequirementError, match="expected an https:// URL"):
        read(tmp_path, f"six @ {url}", allow_urls=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe", "not UTF-8"), (b"six\n" * 2001, "2000"), (b"#" * 300_000, "262144 bytes")],
)
def test_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(RequirementError, match=words):
        read(tmp_path, content)


def test_runtime_asks_for_what_the_gateway_runs() -> None:
    assert [each.text for each in runtime_requirements()] == [
        f"{name}=={version(name)}" for name in ("httptools", "prometheus-client", "uvloop")
    ]


def test_message_blames_the_requirements_it_names(tmp_path: Path) -> None:
    wanted = read(tmp_path, "six==1\nsix-extra\nscikit_learn>1\n")
    message = "Because you require six==1 and scikit-learn>1, nothing fits."
    assert [each.line for each in blamed(wanted, message)] == [1, 3]
