"""Write what is installed for development as a bill of materials (CycloneDX, JSON): `make sbom`.

sbom.py PYTHON OUT      PYTHON is that of the environment which is described
"""

import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Ask cyclonedx-py, and leave out where on this machine things lie."""
    python, out = sys.argv[1], Path(sys.argv[2])
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", python]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        sys.exit(f"sbom: cyclonedx-py failed ({words[:160]})")
    bill = json.loads(done.stdout)
    for component in bill["components"]:
        kept = [
            reference
            for reference in component.pop("externalReferences", [])
            if not reference["url"].startswith("file:")
        ]
        if kept:
            component["externalReferences"] = kept
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(bill, indent=2) + "\n")
    print(f"{out}: {len(bill['components'])} components, CycloneDX {bill['specVersion']}")


if __name__ == "__main__":
    main()
