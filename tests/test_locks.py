"""The locks hold what pyproject.toml asks for, each file by its sha256, and name no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("dev.txt", "serve.txt", "torch.txt", "cpu.txt", "tools.txt")


def locked(*names: str) -> dict[str, set[str]]:
    """Return the locked versions of each package; several where they differ by Python or system."""
    found: dict[str, set[str]] = {}
    for name in names:
        text = (ROOT / "requirements" / name).read_text()
        for package, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;]+)", text, re.M):
            found.setdefault(canonicalize_name(package), set()).add(version)
    return found


def wanted(*names: str) -> list[Requirement]:
    """Return what these extras need: the base, and the extras that they name in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, found = project["optional-dependencies"], []
    waiting = [*project["dependencies"], *(line for name in names for line in extras[name])]
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == "digitry":
            waiting += [line for extra in requirement.extras for line in extras[extra]]
        else:
            found.append(requirement)
    return found


def test_what_is_locked_is_what_pyproject_asks_for() -> None:
    versions = locked("dev.txt", "torch.txt")
    for requirement in wanted("dev"):
        held = versions.get(canonicalize_name(requirement.name), set())
        assert held, f"{requirement.name} is not locked; run make lock"
        for version in held:
            assert requirement.specifier.contains(version), f"{requirement}; run make lock"


def test_the_image_installs_the_locked_versions_that_the_tests_ran_with() -> None:
    tested, image = locked("dev.txt"), locked("serve.txt")
    for requirement in wanted("serve", "postgresql"):
        assert image.get(canonicalize_name(requirement.name)), f"{requirement}; run make lock"
    assert {name: held for name, held in image.items() if not held <= tested.get(name, set())} == {}
    lines = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes --no-deps -r requirements/serve.txt" in lines
    assert "!requirements/serve.txt" in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize("lock", ["dev.txt", "serve.txt"])
def test_what_builds_digitry_is_locked_too(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = locked(lock)
    for line in project["build-system"]["requires"]:
        requirement = Requirement(line)
        assert all(requirement.specifier.contains(held) for held in versions[requirement.name])


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_its_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    assert blocks
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block.splitlines()[0]
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links| @ |(^|[ =])/", text)


def test_both_builds_of_torch_are_of_one_version() -> None:
    (index,), (processors,) = locked("torch.txt")["torch"], locked("cpu.txt")["torch"]
    assert processors == f"{index}+cpu"
