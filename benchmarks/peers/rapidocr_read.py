"""Read images with RapidOCR as it comes from PyPI; run by a Python that has it installed.

    python rapidocr_read.py < images.jsonl > texts.jsonl

Each line of the input is {"path", "whole"}. If `whole`, the whole picture is taken as one line of text;
else lines are found first, and where none is found the whole picture is taken. Each line of the output is
{"text"}, the lines joined by a newline. No setting is tuned.
"""

import json
import logging
import sys

import numpy as np
from PIL import Image, ImageOps
from rapidocr import RapidOCR

logging.disable(logging.CRITICAL)


def upright(path):
    """Return the pixels as (h, w, 3) uint8 BGR, upright, on white."""
    with Image.open(path) as image:
        found = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", found.size, "white")
    return np.asarray(Image.alpha_composite(white, found).convert("RGB"))[:, :, ::-1].copy()


def in_order(boxes, texts):
    """Return texts as lines from top to bottom, those at one height from left to right."""
    rows = []
    order = sorted(range(len(texts)), key=lambda k: float(np.mean(np.array(boxes[k])[:, 1])))
    for k in order:
        corners = np.array(boxes[k], float)
        middle, height = corners[:, 1].mean(), np.ptp(corners[:, 1])
        if rows and middle - rows[-1][0] < 0.5 * height:
            rows[-1][1].append((corners[:, 0].min(), texts[k]))
        else:
            rows.append((middle, [(corners[:, 0].min(), texts[k])]))
    return "\n".join(" ".join(text for _, text in sorted(row)) for _, row in rows)


def main():
    """Answer each line of standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr
    engine = RapidOCR()
    for line in sys.stdin:
        asked = json.loads(line)
        picture, text = upright(asked["path"]), ""
        if not asked["whole"]:
            # All switches are named: the engine keeps those of its last call.
            found = engine(picture, use_det=True, use_cls=True, use_rec=True)
            if found.txts:
                text = in_order(found.boxes, list(found.txts))
        if not text:
            found = engine(picture, use_det=False, use_cls=False, use_rec=True)
            text = " ".join(found.txts or ())
        print(json.dumps({"text": text}), file=answers, flush=True)


main()
