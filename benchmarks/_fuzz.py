"""Fuzz the functions that parse untrusted bytes (coverage-guided, by atheris).

    pip install atheris
    python benchmarks/_fuzz.py image|artifact|archive|data [--seconds 600] [--corpus DIR]

Each target (benchmarks/_targets.py) starts from valid files. Any error that is not a `DigitryError`
ends the run, and its input is written as `crash-...` in the working folder: fix the error, and keep
the input as a test. `--merge DIR` adds the inputs to DIR that reach code which nothing in DIR reaches.
"""

import argparse
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["digitry", "PIL"]):
    import PIL.BmpImagePlugin
    import PIL.GifImagePlugin
    import PIL.JpegImagePlugin
    import PIL.MpoImagePlugin
    import PIL.PngImagePlugin
    import PIL.TiffImagePlugin
    import PIL.WebPImagePlugin  # noqa: F401

    import _targets
    from digitry.errors import DigitryError
    from digitry.training.data import formats  # noqa: F401

LONGEST = 20_000
"""Bytes of the longest input."""


def with_checksums(content: bytes) -> bytes:
    """Return a PNG with correct checksums: a wrong one stops the parser at once."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    found, position = [content[:8]], 8
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = min(position + 8 + length, len(content) - 4)
        body = content[position + 4 : end]
        found += [content[position : position + 4], body, struct.pack(">I", zlib.crc32(body))]
        position = end + 4
    return b"".join([*found, content[position:]])


def mutated(content: bytes, longest: int, seed: int) -> bytes:
    """Return an input as libFuzzer changes it; nine of ten PNG files get correct checksums."""
    changed = atheris.Mutate(content, longest)
    return with_checksums(changed)[:longest] if seed % 10 else changed


def main() -> None:
    """Fuzz one target for the given time."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("target", choices=_targets.TARGETS)
    options.add_argument("--seconds", type=int, default=600)
    options.add_argument("--timeout", type=int, default=10, help="seconds for one input")
    options.add_argument("--corpus", type=Path, default=None)
    options.add_argument("--merge", type=Path, default=None)
    given = options.parse_args()
    corpus = given.corpus or Path(tempfile.mkdtemp(prefix="digitry-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for index, content in enumerate(_targets.seeds(given.target)):
        (corpus / f"seed-{index}").write_bytes(content)
    target = _targets.TARGETS[given.target]

    def one(content: bytes) -> None:
        try:
            target(content)
        except DigitryError as error:
            if "\n" in str(error):
                raise AssertionError("an error of more than one line") from error

    flags = [
        f"-max_total_time={given.seconds}",
        f"-timeout={given.timeout}",
        "-rss_limit_mb=2048",
        f"-max_len={LONGEST}",
    ]
    folders = [str(corpus)]
    if given.merge is not None:
        given.merge.mkdir(parents=True, exist_ok=True)
        flags = ["-merge=1", f"-max_len={LONGEST}"]
        folders.insert(0, str(given.merge))
    changes = {"custom_mutator": mutated} if given.target in ("image", "archive") else {}
    atheris.Setup([sys.argv[0], *flags, *folders], one, **changes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
