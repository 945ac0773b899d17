"""Hold the locks of this folder against the known weaknesses of packages (pip-audit): `make audit`.

Prints a line for each weakness. Exit code 1 if there is one, 4 if the service that knows them cannot be
asked; 0 only if every locked package was looked up and nothing is known against it.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCKS = ("dev.txt", "torch.txt", "tools.txt")
COMMAND = [
    sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json",
    "--progress-spinner", "off", "--timeout", "15", "--requirement",
]  # fmt: skip


def main() -> int:
    """Look up every lock."""
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
                    f"mended in {mended}"
                )
    print(f"{looked_up} packages looked up, {known} findings")
    return 1 if known else 0


def unknown(name: str, words: str) -> int:
    """Say in one line that nothing was learnt."""
    print(
        f"audit: {name} was not looked up, so nothing is known of it ({' '.join(words.split())[:160]}); "
        "try again where the service of known weaknesses can be reached",
        file=sys.stderr,
    )
    return 4


if __name__ == "__main__":
    sys.exit(main())
