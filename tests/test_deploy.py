"""What is given for running the service elsewhere: an image, a composition, a unit. Read, not run."""

import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from digitry.serving.guard import Limits

ROOT = Path(__file__).parents[1]
yaml = pytest.importorskip("yaml")


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile: (instruction, the rest), with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in lines if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    begin = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[begin:]


def test_the_base_of_our_image_has_a_digest_and_others_a_version() -> None:
    defaults = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    named = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    bases = [defaults.get(name.strip("${}"), name) for name in named]
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())
    images = [service["image"] for service in composed["services"].values() if "image" in service]
    assert bases
    for image in bases:
        assert re.search(r"@sha256:[0-9a-f]{64}$", image), image
    for image in (*bases, *images):
        assert re.search(r":\d[\w.-]*$|@sha256:[0-9a-f]{64}$", image), image


def test_nothing_is_fetched_but_by_the_package_manager_and_no_secret_is_built_in() -> None:
    for word, rest in instructions():
        assert word != "ADD"
        if word == "RUN":
            assert not re.search(r"\b(curl|wget|git clone|sudo|chmod 777)\b", rest)
        if word in ("ENV", "ARG"):
            assert not re.search(r"(?i)token|password|secret", rest)


def test_it_runs_as_a_user_without_rights_and_says_how_it_fares() -> None:
    stage = dict(last_stage())
    user = stage["USER"]
    assert user.isdigit()
    assert int(user) >= 1000
    (made,) = [rest for word, rest in last_stage() if word == "RUN" and "useradd" in rest]
    assert f"--uid {user}" in made
    assert "CMD" in stage["HEALTHCHECK"]
    assert "/readyz" in stage["HEALTHCHECK"]
    # Signals reach the process: no shell stands between.
    assert stage["ENTRYPOINT"].startswith('["digitry"')


def test_it_needs_no_file_system_of_its_own_but_its_volume() -> None:
    stage = dict(last_stage())
    variables = [rest for word, rest in last_stage() if word == "ENV"]
    assert any("PYTHONDONTWRITEBYTECODE=1" in rest for rest in variables)
    assert any(f"XDG_DATA_HOME={stage['VOLUME']}" in rest for rest in variables)
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = composed["services"]["digitry"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]


def test_only_what_is_needed_goes_to_the_builder() -> None:
    rules = (ROOT / ".dockerignore").read_text().split()
    assert rules[0] == "**"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        name
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for name in shlex.split(rest)[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    for private in (".git", ".env", ".venv", "runs", "tests"):
        assert not any(fnmatch(private, rule) for rule in kept)


def test_the_composition_is_whole_and_keeps_to_itself() -> None:
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = composed["services"]
    assert set(composed) <= {"services", "volumes", "networks", "name"}
    known = {
        "build", "image", "command", "environment", "ports", "read_only", "tmpfs", "cap_drop",
        "cap_add", "security_opt", "stop_grace_period", "depends_on", "restart", "volumes", "healthcheck",
    }  # fmt: skip
    for name, service in services.items():
        assert set(service) <= known, name
        assert ("build" in service) != ("image" in service)
        for other, needed in service.get("depends_on", {}).items():
            assert other in services
            if needed["condition"] == "service_healthy":
                checked = "test" in services[other].get("healthcheck", {})
                # What is built here has the check of its Dockerfile.
                assert checked or (
                    services[other]["build"] == "." and dict(last_stage())["HEALTHCHECK"]
                )
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(("/", ".")) or source in composed["volumes"]
        for port in service.get("ports", []):
            address = port.removeprefix("${DIGITRY_ADDRESS:-").partition("}")[0].partition(":")[0]
            assert address == "127.0.0.1", "open to the world"
    ours = services["digitry"]
    assert ours["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in ours["security_opt"]


def test_the_service_is_reached_through_its_proxy_alone_and_believes_no_other() -> None:
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = composed["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    command = services["digitry"]["command"]
    (network,) = composed["networks"]["default"]["ipam"]["config"]
    assert command[command.index("--proxy") + 1] == network["subnet"]
    assert "./deploy/Caddyfile:/etc/caddy/Caddyfile:ro" in services["proxy"]["volumes"]
    caddy = (ROOT / "deploy" / "Caddyfile").read_text()
    assert "reverse_proxy digitry:8000" in caddy
    assert "trusted_proxies" not in caddy, "who stands before the proxy is not believed"
    limits = Limits()
    assert f"max_header_size {limits.head_bytes >> 10}KB" in caddy
    assert f"read_header {limits.head_seconds:.0f}s" in caddy
    assert f"read_body {limits.body_seconds:.0f}s" in caddy
    assert f"max_size {limits.body_bytes >> 20}MiB" in caddy


def test_no_secret_of_the_composition_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for name in ("DIGITRY_TOKEN", "POSTGRES_PASSWORD"):
        uses = re.findall(rf"\$\{{{name}[^}}]*\}}", text)
        assert uses
        assert all(use.startswith(f"${{{name}:?") for use in uses)


def test_the_command_lines_given_are_ours() -> None:
    from typer.main import get_command

    from digitry.cli.main import app

    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in serve.params for option in parameter.opts}
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text())
    unit = (ROOT / "deploy" / "digitry.service").read_text()
    started = re.search(r"^ExecStart=\S+ serve (.*)$", unit, re.M)
    assert started is not None
    words = [
        *composed["services"]["digitry"]["command"],
        *started[1].split(),
        *re.findall(r'"(--[a-z-]+)"', dict(last_stage())["ENTRYPOINT"]),
    ]
    for word in words:
        if word.startswith("--"):
            assert word in known, word


def test_the_unit_is_sound(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    # The program lies elsewhere here; all else is held as it is given.
    unit = (ROOT / "deploy" / "digitry.service").read_text()
    path = tmp_path / "digitry.service"
    path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.M))
    done = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "digitry.service" in line]
    assert complaints == []
