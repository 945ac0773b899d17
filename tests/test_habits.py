"""Workflows, forms, hooks, the citation and the documents agree with the project."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import digitry

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(
    path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
)
DOCUMENTS = [
    path
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
    # The log names files of its day.
    if path.name not in ("log.md", "CHANGELOG.md")
]
FILES = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
    ROOT / "compose.yaml",
]


def loaded(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict), path
    return content


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pythons() -> set[str]:
    """Return the versions of Python that pyproject.toml names as supported."""
    found = (re.fullmatch(r".* :: (3\.\d+)", line) for line in PROJECT["classifiers"])
    return {match[1] for match in found if match}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_yaml_file_is_yaml(path: Path) -> None:
    assert loaded(path)


def test_the_oldest_supported_python_is_the_one_that_is_required() -> None:
    oldest = min(pythons(), key=lambda version: int(version.split(".")[1]))
    assert PROJECT["requires-python"] == f">={oldest}"


@pytest.mark.parametrize("job", ["linux", "other-systems"])
def test_the_tests_run_on_every_supported_python(job: str) -> None:
    workflow = loaded(ROOT / ".github" / "workflows" / "tests.yml")
    assert set(workflow["jobs"][job]["strategy"]["matrix"]["python"]) == pythons()


def test_every_room_that_a_workflow_tests_exists() -> None:
    workflow = loaded(ROOT / ".github" / "workflows" / "tests.yml")
    rows = workflow["jobs"]["other-systems"]["strategy"]["matrix"]["include"]
    rooms = [room for row in rows for room in row["rooms"].split()]
    assert rooms
    for room in rooms:
        assert (ROOT / room).is_dir(), room


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_workflows_have_few_rights_and_end_in_time(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for title, job in workflow["jobs"].items():
        assert "timeout-minutes" in job or "uses" in job, title
        writing = {right for right, level in job.get("permissions", {}).items() if level == "write"}
        allowed = {"publish": {"id-token", "attestations"}, "deploy": {"id-token", "pages"}}
        assert writing <= allowed.get(title, set()), title


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_every_action_is_pinned_to_a_version(path: Path) -> None:
    for job in loaded(path)["jobs"].values():
        for step in job.get("steps", []):
            if "uses" in step:
                assert re.search(r"@v\d+(\.\d+)*$|@[0-9a-f]{40}$", step["uses"]), step["uses"]


def test_only_the_approved_job_publishes() -> None:
    jobs = loaded(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    publishing = [
        title
        for title, job in jobs.items()
        if any("pypi-publish" in step.get("uses", "") for step in job.get("steps", []))
    ]
    assert publishing == ["publish"]
    assert jobs["publish"]["environment"]["name"] == "pypi"
    assert {"tests", "try"} <= set(jobs["publish"]["needs"])


def test_the_hooks_run_every_check_of_the_makefile() -> None:
    recipe = re.search(
        r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M
    )
    assert recipe is not None
    programs = [line.split()[0].removeprefix("$(BIN)/") for line in recipe[1].splitlines()]
    (local,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = [Path(hook["entry"].split()[0]).name for hook in local["hooks"]]
    for program in set(programs):
        assert hooks.count(program) >= programs.count(program), program


@pytest.mark.parametrize("path", FORMS, ids=name)
def test_forms_name_each_field_once(path: Path) -> None:
    form = loaded(path)
    assert form["name"]
    assert form["description"]
    fields = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(fields)) == len(fields) > 0


def test_the_citation_is_of_this_version_and_place() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["version"] == digitry.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
    assert citation["authors"] == PROJECT["authors"]


def test_every_address_of_the_repository_is_the_same() -> None:
    home = PROJECT["urls"]["Homepage"]
    owner, name = home.split("/")[-2:]
    guide = f"https://{owner}.github.io/{name}/"
    assert PROJECT["urls"]["Documentation"] == guide
    assert all(url.startswith((home, guide)) for url in PROJECT["urls"].values())
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"site_url: {guide}\nrepo_url: {home}\n" in settings
    links = loaded(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")["contact_links"]
    assert all(link["url"].startswith((f"{home}/", guide)) for link in links)
    assert f'image.source="{home}"' in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"git clone {home} " in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_and_every_path_in_a_document_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = [path.parent / target for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)]
    targets = [target for target in targets if "http" not in target.as_posix()]
    folders = "tests|benchmarks|records|requirements|samples|docs|deploy"
    targets += [ROOT / word for word in re.findall(rf"`(?:python )?((?:{folders})/[\w./-]*)", text)]
    assert [target for target in targets if not target.exists()] == []
