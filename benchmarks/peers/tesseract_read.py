"""Read images with Tesseract as Linux distributions bring it; the program `tesseract` must be installed.

    python tesseract_read.py < images.jsonl > texts.jsonl

Each line of the input is {"path", "layout"}, and of the output {"text"}, the lines joined by a newline.
Tesseract is told what it can be told: that only digits are written (its whitelist), and whether it is one
character, one line or a page. Nothing else is set. Pictures are turned upright and laid on white first.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

MODES = {"single": "10", "line": "7", "grid": "6", "auto": "3"}
"""Layout -> page segmentation mode: one character, one line, one block, Tesseract's own choice."""


def main():
    """Answer each line of standard input."""
    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder) / "picture.png"
        for line in sys.stdin:
            asked = json.loads(line)
            with Image.open(asked["path"]) as image:
                found = ImageOps.exif_transpose(image).convert("RGBA")
            white = Image.new("RGBA", found.size, "white")
            Image.alpha_composite(white, found).convert("RGB").save(png)
            command = ["tesseract", png, "-", "--psm", MODES[asked["layout"]]]
            command += ["-c", "tessedit_char_whitelist=0123456789"]
            # It fails on pictures that it takes for empty; then nothing was read.
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(json.dumps({"text": done.stdout.strip()}), flush=True)


main()
