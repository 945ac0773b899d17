"""Write the locks of this folder from pyproject.toml and the .in files: `make lock`.

    dev.txt    all that development needs but torch, for every Python and system that we support
    torch.txt  torch as the package index has it, and the CUDA that it wants on Linux
    cpu.txt    torch in the builds for processors that PyTorch publishes elsewhere, where pip is told
               of them: a tenth of the size; for Linux, whose builds in the package index hold CUDA
    serve.txt  what the Docker image installs: the extras serve, postgresql and pdf, and what builds
               digitry; not pillow-heif, whose wheels are under the GPL
    tools.txt  what `make lock`, `make audit`, `make sbom` and `make dist` run, in an environment of its
               own
    site.txt   what `make site` builds the guide with (the group docs), in an environment of its own

Each package stands with one version and the sha256 of its files, so that `pip install --require-hashes`
takes nothing else. Versions that are locked stay, unless `--upgrade` is given or pyproject.toml wants
others.

For cpu.txt, the sha256 of each build are read from PyTorch's own index. Where that cannot be reached,
those that are locked stay, and others can be given: `make lock ARGS="--cpu WHEEL"`, or `--cpu LIST` with a
file of lines as `sha256sum` prints them.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST = "3.11"
HEAD = "# Locked by `make lock`; do not edit. {what}\n"
HEADS = {
    "dev.txt": "All that development needs but torch.",
    "torch.txt": "torch as the package index has it, and the CUDA that it wants on Linux.",
    "cpu.txt": "torch for processors, as PyTorch publishes it beside the package index.",
    "serve.txt": "What the Docker image installs.",
    "tools.txt": "What `make lock`, `make audit`, `make sbom` and `make dist` run.",
    "site.txt": "What `make site` builds the guide with.",
}
TORCH = re.compile(r"torch$|triton$|nvidia-|cuda-")
CPU_INDEX = "https://download.pytorch.org/whl/cpu/torch/"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Those of the tests in .github/workflows/tests.yml."""


def compiled(sources: list[str], options: list[str], before: str, *, upgrade: bool) -> str:
    """Resolve for all systems, with the hashes of all files."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.txt"
        out.write_text(before)
        command = [
            sys.executable, "-m", "uv", "pip", "compile", *sources, *options, "--universal",
            "--python-version", OLDEST, "--generate-hashes", "--no-header", "--quiet",
            "--no-config", "--output-file", str(out), *(["--upgrade"] if upgrade else []),
        ]  # fmt: skip
        subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.DEVNULL)
        return out.read_text()


def blocks(text: str) -> dict[str, str]:
    """Cut a lock into packages: name -> lines. A package may have several versions, by marker."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        start = re.match(r"([a-z0-9][a-z0-9._-]*)==", line)
        if start:
            name = start[1]
        elif not line.startswith(" "):
            continue
        found[name] = found.get(name, "") + line
    return found


def builds(version: str, before: str, files: list[Path]) -> str:
    """Lock torch's builds for Linux processors: those known of this version, and these files."""
    known = set(re.findall(r"^# (torch-\S+) sha256:(\w{64})$", before, re.M))
    for file in files:
        if file.suffix == ".whl":
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            known.add((file.name.replace("%2B", "+"), digest))
        else:
            listed = re.findall(r"^(\w{64}) [ *](torch-\S+)$", file.read_text(), re.M)
            known |= {(name.replace("%2B", "+"), digest) for digest, name in listed}
    known |= published()
    fitting = sorted((name, digest) for name, digest in known if is_wanted(name, version))
    if not fitting:
        return ""
    names = "".join(f"# {name} sha256:{digest}\n" for name, digest in fitting)
    hashes = [f"    --hash=sha256:{digest}" for _, digest in fitting]
    return names + " \\\n".join([f"torch=={version}+cpu", *hashes]) + "\n"


def is_wanted(name: str, version: str) -> bool:
    """Return whether a wheel is for Linux, this version of torch, and a Python that is tested."""
    found = re.fullmatch(rf"torch-{re.escape(version)}\+cpu-cp3(\d+)-cp3\1-manylinux\S+\.whl", name)
    return found is not None and f"3.{found[1]}" in PYTHONS


def published() -> set[tuple[str, str]]:
    """Return the wheels in PyTorch's index with their sha256, or none where it cannot be reached."""
    try:
        with urllib.request.urlopen(CPU_INDEX, timeout=15) as answer:
            return wheels(answer.read().decode())
    except OSError as error:
        print(f"requirements/cpu.txt: only what is locked or given ({CPU_INDEX}: {error})")
        return set()


def wheels(page: str) -> set[tuple[str, str]]:
    """Return the names and sha256 of the wheels that a page of an index links to."""
    links = re.findall(r"([^/\"]+\.whl)#sha256=(\w{64})", page)
    return {(name.replace("%2B", "+"), digest) for name, digest in links}


def main() -> None:
    """Write the locks."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--upgrade", action="store_true", help="take the newest of everything")
    options.add_argument(
        "--cpu",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a build of torch for processors, or a list as sha256sum prints it, to be added to cpu.txt",
    )
    given = options.parse_args()
    old = {name: (HERE / name).read_text() if (HERE / name).exists() else "" for name in HEADS}
    whole = compiled(
        ["pyproject.toml", "requirements/dev.in"],
        ["--extra", "dev"],
        old["dev.txt"] + old["torch.txt"],
        upgrade=given.upgrade,
    )
    parts = {"dev.txt": "", "torch.txt": ""}
    for name, block in blocks(whole).items():
        parts["torch.txt" if TORCH.match(name) else "dev.txt"] += block
    version = re.search(r"^torch==(\S+)", parts["torch.txt"], re.M)
    parts["cpu.txt"] = builds(version[1] if version else "", old["cpu.txt"], given.cpu)
    # The versions that the tests ran with, where they are locked.
    image = compiled(
        ["pyproject.toml", "requirements/dev.in"],
        ["--extra", "serve", "--extra", "postgresql", "--extra", "pdf"],
        parts["dev.txt"],
        upgrade=False,
    )
    parts["serve.txt"] = "".join(blocks(image).values())
    tools = compiled(["requirements/tools.in"], [], old["tools.txt"], upgrade=given.upgrade)
    parts["tools.txt"] = "".join(blocks(tools).values())
    site = compiled([], ["--group", "docs"], old["site.txt"], upgrade=given.upgrade)
    parts["site.txt"] = "".join(blocks(site).values())
    for name, text in parts.items():
        (HERE / name).write_text(HEAD.format(what=HEADS[name]) + text)
        print(f"requirements/{name}: {len(re.findall('^[a-z0-9]', text, re.M))} packages")


if __name__ == "__main__":
    main()
