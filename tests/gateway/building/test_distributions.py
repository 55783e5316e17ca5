import sys
import zipfile
from pathlib import Path

import pytest

from gateway.building.distributions import import_names
from tests.fake_wheels import write_wheel


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ({"six.py": ""}, ("six",)),
        ({"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "tests/__init__.py": ""}, ("pkg",)),
        ({"google/protobuf/__init__.py": "", "google/protobuf/a/__init__.py": ""},
         ("google.protobuf",)),
        ({"fast.cpython-311-x86_64-linux-gnu.so": "", "_fast.abi3.so": ""}, ("fast",)),
        ({"pkg/__init__.cpython-311-x86_64-linux-gnu.so": ""}, ("pkg",)),
        ({"my_dist/__init__.py": "", "adbc_my_dist/__init__.py": ""}, ("my_dist",)),
        ({"data/readme.txt": "", "not-a-name.py": "", "x.pth": ""}, ()),
    ],
)  # fmt: skip
def test_modules_are_read_from_the_record(
    tmp_path: Path, files: dict[str, str], modules: tuple[str, ...]
) -> None:
    site = tmp_path / "site-packages"
    with zipfile.ZipFile(write_wheel(tmp_path, "My.Dist", "1.0", files)) as wheel:
        wheel.extractall(site)
    assert import_names(site, {"my-dist", "absent"}) == modules
    assert import_names(site, {"other"}) == ()


def test_installed_libraries_have_the_names_that_handlers_import() -> None:
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    names = import_names(site, {"numpy", "scikit-learn", "protobuf", "pyyaml", "onnxruntime"})
    assert names == ("google.protobuf", "numpy", "onnxruntime", "sklearn", "yaml")
