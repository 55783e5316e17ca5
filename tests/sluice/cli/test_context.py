import io
import json
import tarfile
from pathlib import Path

import pytest

from sluice.cli.context import CONFIG_MEMBER, make_context, write_tar
from sluice.cli.errors import CommandError
from sluice.cli.stack import Function, Stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    template = tmp_path / "template" / "python3-ml"
    (template / "function").mkdir(parents=True)
    (template / "template.yml").write_text("language: python3-ml\n")
    (template / "function" / "handler.py").write_text("# sample\n")
    (template / "function" / "extra.py").write_text("# sample\n")
    handler = tmp_path / "predict"
    (handler / "build").mkdir(parents=True)
    (handler / "handler.py").write_text("# mine\n")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.py").write_text("")
    return Stack(tmp_path / "stack.yml", "", (), ("shared",))


PREDICT = Function("predict", "sluice/predict:1", lang="python3-ml", handler="./predict")


def test_handler_lies_over_the_template_sample(stack: Stack, tmp_path: Path) -> None:
    context = tmp_path / "context"
    make_context(stack, PREDICT, context)
    assert (context / "function" / "handler.py").read_text() == "# mine\n"
    assert (context / "function" / "extra.py").exists()
    assert (context / "function" / "shared" / "a.py").exists()
    assert not (context / "function" / "build").exists()


def test_tar_holds_the_context_and_the_builder_configuration(stack: Stack, tmp_path: Path) -> None:
    context, output = tmp_path / "context", io.BytesIO()
    make_context(stack, PREDICT, context)
    write_tar(context, PREDICT, output)
    output.seek(0)
    with tarfile.open(fileobj=output) as archive:
        names = archive.getnames()
        config = archive.extractfile(CONFIG_MEMBER)
        assert config is not None
        assert json.load(config)["image"] == "sluice/predict:1"
    assert names[0] == "context"
    assert "context/function/handler.py" in names


def test_equal_contexts_make_equal_tars(stack: Stack, tmp_path: Path) -> None:
    tars = []
    for name in ("a", "b"):
        output = io.BytesIO()
        make_context(stack, PREDICT, tmp_path / name)
        write_tar(tmp_path / name, PREDICT, output)
        tars.append(output.getvalue())
    assert tars[0] == tars[1]


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (Function("a", "a", lang="none", handler="./predict"), "no template 'none'"),
        (Function("a", "a", lang="python3-ml", handler="./gone"), "'./gone' does not exist"),
    ],
)
def test_missing_part_is_named(
    stack: Stack, tmp_path: Path, function: Function, complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        make_context(stack, function, tmp_path / "context")


def test_copy_outside_the_project_is_refused(stack: Stack, tmp_path: Path) -> None:
    outside = Stack(stack.path, "", (), ("../..",))
    with pytest.raises(CommandError, match="does not lie under"):
        make_context(outside, PREDICT, tmp_path / "context")


@pytest.mark.parametrize("place", [".", "deep"])
def test_link_to_nothing_is_an_error_that_names_it(
    stack: Stack, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "predict" / place
    folder.mkdir(exist_ok=True)
    (folder / "gone.txt").symlink_to("nowhere")
    with pytest.raises(CommandError, match=r"^predict: .*gone\.txt"):
        make_context(stack, PREDICT, tmp_path / "context")
