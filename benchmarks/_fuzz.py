"""Coverage-guided fuzzing (atheris) of what parses strangers' bytes; any error but ours ends it.

    pip install atheris
    python benchmarks/_fuzz.py image|artifact|archive|gate [--seconds 600] [--corpus DIR]

Each target starts from files that are sound. A finding is written as `crash-...` in the working folder;
mend it, and keep it as a case of the tests.
"""

import argparse
import io
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["digitry"]):
    from digitry import artifact
    from digitry.errors import DigitryError
    from digitry.reading import image
    from digitry.serving import archives

from PIL import Image

MAX_PIXELS = 1_000_000
"""So that the fuzzer spends its time on parsing, not on filling memory."""


def read_image(content: bytes) -> None:
    """Prepare a page."""
    image.load(content, max_pixels=MAX_PIXELS)


def read_artifact(content: bytes) -> None:
    """Check a model file."""
    artifact.parse(content, source="fuzz")


def read_archive(content: bytes) -> None:
    """Walk a tar and a zip."""
    for member in archives.tar_members(io.BytesIO(content)):
        if (member.content is None) != (member.error is not None):
            raise AssertionError("neither a member nor a reason")
    start, refused = archives.zip_start(io.BytesIO(content))
    if refused is None:
        list(archives.zip_members(io.BytesIO(content), start))


def read_keras(content: bytes) -> None:
    """Check a .keras file."""
    from digitry.training import gate

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.keras"
        path.write_bytes(content)
        (Path(folder) / "copy").mkdir()
        gate.checked_copy(path, Path(folder) / "copy")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "image": read_image,
    "artifact": read_artifact,
    "archive": read_archive,
    "gate": read_keras,
}


def seeds(target: str) -> list[bytes]:
    """Give sound files of the target's kind."""
    pictures = []
    for form in image.FORMATS:
        stream = io.BytesIO()
        Image.new("RGB", (24, 24), (200, 30, 90)).save(stream, form)
        pictures.append(stream.getvalue())
    if target == "image":
        return pictures
    if target == "artifact":
        return [artifact.load("reader").onnx[:4000], artifact.load("reader").onnx[-4000:]]
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as made, zipfile.ZipFile(packed, "w") as other:
        for index, content in enumerate(pictures):
            header = tarfile.TarInfo(f"{index}.png")
            header.size = len(content)
            made.addfile(header, io.BytesIO(content))
            other.writestr(f"{index}.png", content)
    return [tar.getvalue(), packed.getvalue()]


def main() -> None:
    """Fuzz one target for so many seconds."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("target", choices=TARGETS)
    options.add_argument("--seconds", type=int, default=600)
    options.add_argument("--corpus", type=Path, default=None)
    given = options.parse_args()
    corpus = given.corpus or Path(tempfile.mkdtemp(prefix="digitry-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for index, content in enumerate(seeds(given.target)):
        (corpus / f"seed-{index}").write_bytes(content)

    def one(content: bytes) -> None:
        try:
            TARGETS[given.target](content)
        except DigitryError as error:
            if "\n" in str(error):
                raise AssertionError("an error of more than one line") from error

    flags = [
        f"-max_total_time={given.seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=20000",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
