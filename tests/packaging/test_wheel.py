"""The package as people install it: built from the checkout, beside django-storages, in a fresh environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"flowstore": "flowstore", "storages": "flowstore/storages"}
SOURCES = ["pyproject.toml", "README.md", "LICENSE", *FOLDERS]


def installed_files() -> dict[str, Path]:
    """Return what must be in the wheel: every file of the two folders, under its installed name."""
    return {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}": path
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def command(*arguments: str | Path) -> str:
    done = subprocess.run([*map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def inside(python: Path, code: str) -> str:
    """Run code in an environment, isolated: neither the current directory nor a variable leads to the checkout."""
    return command(python, "-I", "-W", "error", "-c", code)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from it."""
    # From a copy, so that nothing left of an earlier build gets in and nothing is left in the checkout.
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    target = tmp_path_factory.mktemp("dist")
    command(sys.executable, "-m", "build", "--outdir", target, copy)
    return target


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and django-storages into a fresh environment; return its Python."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    for requirement in (str(wheel), "django-storages"):
        command(
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
            *("install", "--quiet", "--no-deps", requirement),
        )
    # Everything else comes from here. Path files found through a path file are not read, so that an editable
    # flowstore stays out.
    site_packages = Path(inside(python, "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site_packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def test_wheel_holds_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert found == set(installed_files()), "see packages and package-data in pyproject.toml"
        assert "flowstore/py.typed" in found
        assert all(archive.read(name) == path.read_bytes() for name, path in installed_files().items())
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_source_distribution_keeps_the_layout(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "storages/__init__.py", "flowstore/py.typed"} <= names


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("flowstore", "flowstore/__init__.py"),
        ("flowstore.cli", "flowstore/cli/__init__.py"),
        ("flowstore.storages", "flowstore/storages/__init__.py"),
        ("storages", "storages/__init__.py"),
    ],
)
def test_both_projects_import_from_their_own_files(environment: Path, module: str, place: str) -> None:
    show = f"import sysconfig, {module} as m; print(m.__file__); print(sysconfig.get_path('purelib'))"
    file, site_packages = inside(environment, show).split()
    assert Path(file) == Path(site_packages) / place


def test_neither_project_overwrites_a_file_of_the_other(environment: Path) -> None:
    show = "from importlib.metadata import files; print(*files('{}'), sep='\\n')"
    ours, theirs = (
        set(inside(environment, show.format(name)).splitlines()) for name in ("flowstore", "django-storages")
    )
    assert ours
    assert theirs
    assert not ours & theirs


def test_command_is_installed(environment: Path) -> None:
    assert "Usage: " in command(environment.with_name("flowstore"), "--help")


def test_celery_finds_the_command_group(environment: Path) -> None:
    show = (
        "from importlib.metadata import entry_points as e; print(*[p.load().name for p in e(group='celery.commands')])"
    )
    assert inside(environment, show).strip() == "flowstore"
