"""The package as a user gets it: names, version, light imports, nothing that holds on one machine only."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import lingen_kit

# In parts, so that this file does not name what it looks for.
REGISTRIES = [
    ".".join(parts) for parts in [("pypi", "org"), ("files", "pythonhosted"), ("npmjs", "org"), ("conda", "anaconda")]
]
MACHINE_PATH = re.compile(r"(?<![\w.$~:/-])/(?:root|work|home/\w+|Users/\w+)/")


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def texts(root: Path) -> dict[str, str]:
    """Every text file that is committed or about to be, by its path."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    found = {}
    for name in filter(None, listing.stdout.split("\0")):
        path = root / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            found[name] = content.decode("utf-8")
    return found


def run_elsewhere(code: str, folder: Path) -> str:
    """Run Python code in a fresh interpreter, in a folder that holds nothing of ours, as a user would."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_version_is_one_and_the_same():
    assert re.fullmatch(r"\d+\.\d+\.\d+", lingen_kit.__version__)
    assert metadata.version("lingen_kit") == lingen_kit.__version__, (
        "installed before the version changed: run `make install`"
    )


def test_importing_the_kit_imports_nothing_heavy(tmp_path: Path):
    code = "import lingen_kit, sys; print({'torch', 'numpy', 'lightning', 'jsonargparse'} & set(sys.modules))"
    assert run_elsewhere(code, tmp_path) == "set()"


def test_packages_named_in_pyproject_are_the_packages_that_exist(root: Path, project: dict[str, Any]):
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    outside = {"tests", "benchmarks", "experiments", "docs"}
    existing = {path.parent.name for path in root.glob("*/__init__.py")} - outside
    assert existing == {pattern.rstrip("*") for pattern in patterns}
    for package in existing:
        for folder in {path.parent for path in (root / package).rglob("*.py")}:
            dotted = ".".join(folder.relative_to(root).parts)
            assert (folder / "__init__.py").is_file(), f"{dotted} has no __init__.py: the wheel would leave it out"
            assert any(fnmatch(dotted, pattern) for pattern in patterns)


@pytest.mark.parametrize("package", ["lingen_kit", "callbacks", "eval"])
def test_package_is_found_from_any_folder(package: str, root: Path, tmp_path: Path):
    # Found, not executed: callbacks would load Lightning.
    code = f"import importlib.util; print(importlib.util.find_spec({package!r}).origin)"
    printed = run_elsewhere(code, tmp_path)
    assert Path(printed) == root / package / "__init__.py"


def test_typed_marker_ships(root: Path, project: dict[str, Any]):
    assert (root / "lingen_kit" / "py.typed").is_file()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["lingen_kit"]


def test_command_line_entry_is_the_module(project: dict[str, Any]):
    assert project["project"]["scripts"] == {"lingen_kit": "lingen_kit.__main__:main"}


def test_changelog_has_a_place_for_this_version(root: Path):
    headings = re.findall(r"^## \[(.+?)\]", (root / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == lingen_kit.__version__


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_file_names_a_package_registry(host: str, texts: dict[str, str]):
    assert [name for name, text in texts.items() if host in text] == []


def test_no_file_names_a_folder_of_one_machine(texts: dict[str, str]):
    assert [(name, found.group()) for name, text in texts.items() if (found := MACHINE_PATH.search(text))] == []


def test_every_dependency_has_a_floor(project: dict[str, Any]):
    extras = project["project"]["optional-dependencies"].values()
    requirements = [*project["project"]["dependencies"], *(item for extra in extras for item in extra)]
    bare = [item for item in requirements if ">=" not in item and not item.startswith("lingen_kit[")]
    assert bare == []


def test_machine_path_pattern_finds_what_it_should():
    slash = "/"
    assert MACHINE_PATH.search(f"see {slash}home{slash}ada{slash}data")
    assert MACHINE_PATH.search(f'"{slash}root{slash}x"')
    assert not MACHINE_PATH.search(f"https://host{slash}home{slash}page{slash}")
    assert not MACHINE_PATH.search(f"our{slash}work{slash}there")
