"""Look up known vulnerabilities of the locked packages (pip-audit): `make audit`.

Prints a line for each vulnerability. Exit code 1 if there is one. If the service cannot be reached, or
knows nothing of a package, it says what was not looked up; exit code 0 then, or 4 with `--strict`, as in
CI.

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
LOCKS = ("dev.txt", "serve.txt", "torch.txt", "tools.txt", "site.txt")
COMMAND = [
    sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json",
    "--progress-spinner", "off", "--timeout", "15", "--requirement",
]  # fmt: skip


NOT_DONE = 4


def main() -> int:
    """Look up every lock."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--database", type=Path, metavar="ZIP", help="advisories, downloaded before"
    )
    options.add_argument(
        "--strict", action="store_true", help="exit code 4 if something was not looked up"
    )
    given = options.parse_args()
    code = online() if given.database is None else offline(given.database)
    return 0 if code == NOT_DONE and not given.strict else code


def online() -> int:
    """Look up every lock by pip-audit."""
    found = looked_up = 0
    is_complete = True
    for name in LOCKS:
        done = subprocess.run([*COMMAND, str(HERE / name)], capture_output=True, text=True)
        try:
            packages = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError, TypeError):
            # pip-audit ends for want of a network in many words, and not always in the same.
            unknown(name, (done.stderr.strip().splitlines() or ["it said nothing"])[-1])
            is_complete = False
            break
        skipped = [package for package in packages if "skip_reason" in package]
        if skipped and len(skipped) == len(packages):
            # It takes a service that knows none of its questions for one that knows no weakness.
            unknown(name, skipped[0]["skip_reason"])
            is_complete = False
            break
        for package in skipped:
            is_complete = False
            print(f"{name}: {package['name']} was not looked up ({package['skip_reason']})")
        for package in packages:
            looked_up += package not in skipped
            for weakness in package.get("vulns", []):
                found += 1
                mended = ", ".join(weakness["fix_versions"]) or "nowhere yet"
                print(
                    f"{name}: {package['name']} {package['version']}: {weakness['id']}, "
                    f"fixed in {mended}"
                )
    print(f"{looked_up} packages looked up, {found} findings")
    return 1 if found else 0 if is_complete else NOT_DONE


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
    """Print in one line that a lock or database was not looked up; return the exit code for that."""
    print(
        f"audit: not done: nothing was checked for {name} ({' '.join(words.split())[:160]}); "
        "run it with network access, or give a downloaded database: --database ZIP",
        file=sys.stderr,
    )
    return NOT_DONE


if __name__ == "__main__":
    sys.exit(main())
