"""Look up known vulnerabilities of the locked packages (pip-audit): `make audit`.

Prints a line for each vulnerability. Exit code 1 if there is one, 4 if the service cannot be reached; 0
only if every locked package was looked up and none was found.

Where the service cannot be reached, `make audit ARGS="--database all.zip"` looks into a database that was
downloaded before: a zip of advisories in OSV's format, one JSON file each.
"""

import argparse
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

HERE = Path(__file__).resolve().parent
LOCKS = ("dev.txt", "serve.txt", "torch.txt", "tools.txt")
COMMAND = [
    sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json",
    "--progress-spinner", "off", "--timeout", "15", "--requirement",
]  # fmt: skip


def main() -> int:
    """Look up every lock."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--database", type=Path, metavar="ZIP", help="advisories, downloaded before"
    )
    given = options.parse_args()
    if given.database is not None:
        return offline(given.database)
    known = looked_up = 0
    for name in LOCKS:
        done = subprocess.run([*COMMAND, str(HERE / name)], capture_output=True, text=True)
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError, TypeError):
            # pip-audit ends for want of a network in many words, and not always in the same.
            return unknown(name, (done.stderr.strip().splitlines() or ["it said nothing"])[-1])
        skipped = [package for package in packages if "skip_reason" in package]
        if skipped and len(skipped) == len(packages):
            # It takes a service that knows none of its questions for one that knows no weakness.
            return unknown(name, skipped[0]["skip_reason"])
        for package in skipped:
            known += 1
            print(f"{name}: {package['name']} was not looked up ({package['skip_reason']})")
        for package in packages:
            looked_up += package not in skipped
            for weakness in package.get("vulns", []):
                known += 1
                mended = ", ".join(weakness["fix_versions"]) or "nowhere yet"
                print(
                    f"{name}: {package['name']} {package['version']}: {weakness['id']}, "
                    f"fixed in {mended}"
                )
    print(f"{looked_up} packages looked up, {known} findings")
    return 1 if known else 0


def offline(database: Path) -> int:
    """Look up every lock in a downloaded database."""
    held: dict[str, set[tuple[str, str]]] = {}
    for lock in LOCKS:
        text = (HERE / lock).read_text()
        for name, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;]+)", text, re.M):
            held.setdefault(name, set()).add((lock, version))
    findings, advisories = set(), 0
    try:
        with zipfile.ZipFile(database) as packed:
            for member in packed.namelist():
                if not member.endswith(".json"):
                    continue
                advisory = json.loads(packed.read(member))
                advisories += 1
                if advisory.get("withdrawn"):
                    continue
                for affected in advisory.get("affected", []):
                    package = affected.get("package", {})
                    name = re.sub(r"[-_.]+", "-", package.get("name", "")).lower()
                    if package.get("ecosystem") != "PyPI" or name not in held:
                        continue
                    findings |= {
                        (lock, name, version, advisory["id"])
                        for lock, version in held[name]
                        if is_affected(version, affected)
                    }
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        return unknown(database.name, str(error))
    if not advisories:
        return unknown(database.name, "it holds no advisory")
    for lock, name, version, weakness in sorted(findings):
        print(f"{lock}: {name} {version}: {weakness}")
    packages = sum(map(len, held.values()))
    print(f"{packages} packages held against {advisories} advisories, {len(findings)} findings")
    return 1 if findings else 0


def is_affected(version: str, affected: dict[str, list[Any]]) -> bool:
    """Return whether a version is listed, or lies in a range of versions.

    A range that names a version which cannot be compared counts: better one finding too many.
    """
    if version in affected.get("versions", []):
        return True
    ranges = [known for known in affected.get("ranges", []) if known.get("type") == "ECOSYSTEM"]
    try:
        return any(is_inside(Version(version), known.get("events", [])) for known in ranges)
    except InvalidVersion:
        return True


def is_inside(version: Version, events: list[dict[str, str]]) -> bool:
    """Return whether a version lies in a range, given as OSV's events."""
    inside = False
    for event in events:
        if "introduced" in event:
            inside = inside or version >= Version(event["introduced"])
        elif "fixed" in event:
            inside = inside and version < Version(event["fixed"])
        elif "last_affected" in event:
            inside = inside and version <= Version(event["last_affected"])
    return inside


def unknown(name: str, words: str) -> int:
    """Print in one line that nothing was looked up; return the exit code for that."""
    print(
        f"audit: {name} was not looked up, so nothing was checked ({' '.join(words.split())[:160]}); "
        "run it with network access, or give a downloaded database: --database ZIP",
        file=sys.stderr,
    )
    return 4


if __name__ == "__main__":
    sys.exit(main())
