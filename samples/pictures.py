"""Draw README's pictures: docs/reading.png, an annotated page, and docs/before-after.png.

    python samples/pictures.py MODEL

The second picture shows the ten sample digits, read the classic way and by digitry. MODEL is a run folder
or .onnx file trained on plain MNIST, such as that of `dense-128-128`. The classic way is what beginners'
programs do with a photo: convert it to grey, resize it to 28x28, divide by 255.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from digitry import files
from digitry.model.load import load_model
from digitry.reading.classifier import Classifier
from digitry.reading.reader import Reader
from digitry.reading.render import annotate

HERE = Path(__file__).parent
CELL, GAP, LABELS = 112, 12, 190
INK, MUTED, GROUND = (22, 24, 29), (98, 106, 120), (255, 255, 255)
RIGHT, WRONG = (18, 124, 66), (190, 36, 36)


def main() -> None:
    """Read the samples and save both pictures."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reader = Reader()
    page = HERE / "sheet.jpg"
    save(annotate(page, reader.read(page)), "reading.png")
    save(both_ways(Classifier(load_model(sys.argv[1])), reader), "before-after.png")


def both_ways(classic: Classifier, reader: Reader) -> Image.Image:
    """Return a picture of the sample digits, the glyphs of both ways, and their readings."""
    with (HERE / "truth.csv").open(encoding="utf-8") as lines:
        cases = [row for row in csv.DictReader(lines) if row["layout"] == "single"]
    rows = (
        "a picture of a digit",
        "the classic way sees",
        "and reads",
        "digitry sees",
        "and reads",
    )
    heights = (CELL, CELL, 44, CELL, 44)
    tops = [GAP + sum(heights[:row]) + row * GAP for row in range(len(rows))]
    size = (LABELS + len(cases) * (CELL + GAP) + GAP, tops[-1] + heights[-1] + GAP)
    sheet = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(sheet)
    label, answer = ImageFont.load_default(17), ImageFont.load_default(30)
    for top, height, text in zip(tops, heights, rows, strict=True):
        draw.text((GAP, top + height / 2), text, MUTED, label, "lm")
    for column, case in enumerate(cases):
        x = LABELS + column * (CELL + GAP)
        picture = Image.open(HERE / case["file"])
        small = np.asarray(picture.convert("L").resize((28, 28)), np.float32) / 255
        guess = int(classic.probabilities(small[None])[0, :10].argmax())
        reading, glyphs = reader.examine(HERE / case["file"], layout="single")
        # As a viewer shows it: transparent parts are white.
        shown = picture.convert("RGBA")
        paper = Image.new("RGBA", shown.size, GROUND)
        photo = ImageOps.contain(Image.alpha_composite(paper, shown), (CELL, CELL)).convert("RGB")
        place = (x + (CELL - photo.width) // 2, tops[0] + (CELL - photo.height) // 2)
        sheet.paste(photo, place)
        for top, seen in ((tops[1], small), (tops[3], glyphs[0])):
            pixels = Image.fromarray(np.rint(seen * 255).astype(np.uint8))
            sheet.paste(pixels.resize((CELL, CELL), Image.Resampling.NEAREST), (x, top))
        for row, text in ((2, str(guess)), (4, reading.text)):
            colour = RIGHT if text == case["label"] else WRONG
            middle = (x + CELL / 2, tops[row] + heights[row] / 2)
            draw.text(middle, text, colour, answer, "mm")
    return sheet


def save(picture: Image.Image, name: str) -> None:
    """Save a picture in docs/."""
    with files.replacing(HERE.parent / "docs" / name) as temporary:
        picture.save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    main()
