"""The locks hold what pyproject.toml asks for, each file by its sha256, and name no address."""

import hashlib
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("dev.txt", "serve.txt", "torch.txt", "cpu.txt", "tools.txt", "site.txt")


def refresh() -> Any:
    """Return the module that writes the locks."""
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "requirements" / "refresh.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_the_image_reads_pdfs_and_ships_no_package_under_the_gpl() -> None:
    image = locked("serve.txt")
    assert "pypdfium2" in image
    # Its wheels hold x265.
    assert "pillow-heif" not in image


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


def test_the_builds_for_processors_are_locked_for_every_python_that_ci_tests() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    pythons = jobs["linux"]["strategy"]["matrix"]["python"]
    assert tuple(pythons) == refresh().PYTHONS
    text = (ROOT / "requirements" / "cpu.txt").read_text()
    wheels = dict(re.findall(r"^# (torch-\S+) sha256:(\w+)$", text, re.M))
    assert set(wheels.values()) == set(re.findall(r"--hash=sha256:(\w+)", text))
    for tag in (python.replace(".", "") for python in pythons):
        for machine in ("x86_64", "aarch64"):
            assert any(f"-cp{tag}-cp{tag}-" in name and machine in name for name in wheels)


PAGE = """
<a href="https://elsewhere.example/whl/cpu/torch-2.13.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl#sha256={0}"
   data-dist-info-metadata="sha256={9}">torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl</a><br/>
<a href="/whl/cpu/torch-2.13.0%2Bcpu-cp314-cp314t-manylinux_2_28_x86_64.whl#sha256={1}">threads</a>
<a href="/whl/cpu/torch-2.13.0%2Bcpu-cp312-cp312-win_amd64.whl#sha256={2}">Windows</a>
<a href="/whl/cpu/torch-2.12.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl#sha256={3}">older</a>
<a href="/whl/cpu/torch-2.13.0-cp312-cp312-macosx_14_0_arm64.whl#sha256={4}">macOS</a>
"""


def test_builds_are_taken_from_an_index_from_files_and_from_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = refresh()
    page = PAGE.format(*(f"{digit:064}" for digit in range(10)))
    monkeypatch.setattr(module, "published", lambda: module.wheels(page))
    wheel = tmp_path / "torch-2.13.0+cpu-cp313-cp313-manylinux_2_28_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    listed = tmp_path / "list"
    listed.write_text(f"{8:064}  torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl\n")
    lock = module.builds("2.13.0", "", [wheel, listed])
    digest = hashlib.sha256(b"a wheel").hexdigest()
    assert re.findall(r"--hash=sha256:(\w+)", lock) == [f"{8:064}", f"{0:064}", digest]
    # What is locked stays where the index is not reached.
    monkeypatch.setattr(module, "published", set)
    assert module.builds("2.13.0", lock, []) == lock
    assert module.builds("2.14.0", lock, []) == ""


def test_both_builds_of_torch_are_of_one_version() -> None:
    (index,), (processors,) = locked("torch.txt")["torch"], locked("cpu.txt")["torch"]
    assert processors == f"{index}+cpu"
