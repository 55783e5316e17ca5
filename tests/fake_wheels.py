"""A folder of small real wheels, so that a build needs neither network nor minutes."""

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

RUNTIME = ("httptools", "prometheus-client", "uvloop")


def write_wheel(
    folder: Path,
    name: str,
    release: str,
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
) -> Path:
    """A pure-Python wheel; without `files` one module of the distribution's name."""
    plain = name.replace("-", "_")
    info = f"{plain}-{release}.dist-info"
    content = dict(files if files is not None else {f"{plain}.py": f"VERSION = {release!r}\n"})
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {release}"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    content[f"{info}/METADATA"] = "\n".join(lines) + "\n"
    content[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in content.items())
    content[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = folder / f"{plain}-{release}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in content.items():
            archive.writestr(member, text)
    return path


# A build backend that needs no other: it packs the wheel it finds beside itself.
BACKEND = """
import pathlib, shutil
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    wheel = next(pathlib.Path(__file__).parent.glob("*.whl"))
    return shutil.copy(wheel, wheel_directory) and wheel.name
"""


def write_sdist(folder: Path, name: str, release: str) -> Path:
    """A source distribution without a wheel beside it, which builds itself."""
    root = f"{name}-{release}"
    path = folder / f"{root}.tar.gz"
    with TemporaryDirectory() as scratch, tarfile.open(path, "w:gz") as archive:
        wheel = write_wheel(Path(scratch), name, release)
        texts = {
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n",
            "backend.py": BACKEND,
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
            'backend-path = ["."]\n',
        }
        for member, text in texts.items():
            info = tarfile.TarInfo(f"{root}/{member}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        archive.add(wheel, f"{root}/{wheel.name}")
    return path


def write_wheelhouse(folder: Path) -> Path:
    """Stand-ins for the runtime's own requirements, and a few distributions to ask for."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in RUNTIME:
        write_wheel(folder, name, version(name))
    write_wheel(folder, "small", "1.0")
    write_wheel(folder, "small", "2.0")
    write_wheel(folder, "needs-old-small", "1.0", requires=["small<2"])
    write_sdist(folder, "fromsource", "1.0")
    write_wheel(
        folder,
        "py-many",
        "1.0",
        {
            "many/__init__.py": "",
            "many/deep/__init__.py": "",
            "other.py": "",
            "tests/__init__.py": "",
        },
    )
    return folder


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
