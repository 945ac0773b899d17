"""Draw the sample forms, blank and filled in, with their templates, in the folder `forms`.

A slip and an exam sheet. The blank forms are what the templates name as their reference; the filled ones
are photographed askew on a table. `make samples` runs this; it always draws the same.
"""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from digitry.files import write_bytes
from digitry.reading.render import type_of_size
from digitry.reading.template import Field, Template

if __package__:
    from samples import draw
else:
    import draw

FOLDER = Path(__file__).parent / "forms"
WHITE, BLACK, GREY = 250, 40, 110
LINE = 3

Boxes = dict[str, tuple[int, int, int, int]]
"""Field -> left, top, width, height, in pixels of the blank form."""

SLIP = (840, 1200)
SLIP_BOXES: Boxes = {
    "account": (330, 150, 640, 84),
    "date": (330, 290, 400, 84),
    "amount": (330, 430, 400, 84),
    "reference": (330, 560, 640, 84),
    "copies": (330, 700, 90, 84),
}
SLIP_FIELDS = {
    "account": (r"\d{8}", "line", False),
    "date": (r"[0-3]\d\.[01]\d\.20\d\d", "line", False),
    "amount": (r"\d{1,4}\.\d\d", "line", False),
    "reference": (r"\d{9}", "line", False),
    "copies": (r"\d", "single", True),
}
CELLS = {"account": 8, "student": 7}
"""Fields with a cell for each digit."""

EXAM = (1400, 1000)
QUESTIONS = 12
EXAM_BOXES: Boxes = {
    "student": (330, 150, 560, 84),
    **{
        f"question {i + 1}": (330 + 470 * (i // 6), 330 + 130 * (i % 6), 130, 84)
        for i in range(QUESTIONS)
    },
    "total": (800, 1200, 130, 84),
}
EXAM_FIELDS = {
    "student": (r"\d{7}", "line", False),
    **{f"question {i + 1}": (r"\d\d?", "line", True) for i in range(QUESTIONS)},
    "total": (r"\d{1,3}", "line", False),
}


class Print:
    """A blank form while it is drawn: (h, w) uint8, dark on light."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.picture = Image.new("L", shape[::-1], WHITE)
        self.pen = ImageDraw.Draw(self.picture)

    def text(self, x: int, y: int, text: str, size: int, anchor: str = "lm") -> None:
        """Print a text."""
        self.pen.text((x, y), text, BLACK, type_of_size(size), anchor)

    def frame(self, box: tuple[int, int, int, int], cells: int = 1) -> None:
        """Print a box, with a cell for each digit."""
        x, y, w, h = box
        self.pen.rectangle((x, y, x + w, y + h), outline=GREY, width=LINE)
        for i in range(1, cells):
            at = x + w * i // cells
            self.pen.line((at, y, at, y + h), GREY, LINE)

    def done(self) -> NDArray[np.uint8]:
        """Return the form."""
        return np.asarray(self.picture)


def slip() -> NDArray[np.uint8]:
    """Return the blank slip."""
    form = Print(SLIP)
    form.text(60, 70, "Payment slip", 52)
    form.text(1140, 55, "Please write in the boxes,", 24, "rm")
    form.text(1140, 88, "one digit in each cell.", 24, "rm")
    labels = ("Account", "Date", "Amount", "Reference", "Copies")
    for (name, box), label in zip(SLIP_BOXES.items(), labels, strict=True):
        form.text(60, box[1] + box[3] // 2, label, 32)
        if name != "reference":
            form.frame(box, CELLS.get(name, 1))
    x, y, w, h = SLIP_BOXES["reference"]
    form.pen.line((x, y + h, x + w, y + h), GREY, LINE)
    form.text(760, SLIP_BOXES["date"][1] + 42, "day.month.year", 24)
    form.text(760, SLIP_BOXES["amount"][1] + 42, "EUR", 32)
    form.text(450, SLIP_BOXES["copies"][1] + 42, "leave empty for one copy", 24)
    form.text(1140, 760, "Form 2041 / 7", 22, "rm")
    return form.done()


def exam() -> NDArray[np.uint8]:
    """Return the blank exam sheet."""
    form = Print(EXAM)
    form.text(60, 70, "Exam: points", 52)
    form.text(60, EXAM_BOXES["student"][1] + 42, "Student number", 32)
    form.frame(EXAM_BOXES["student"], CELLS["student"])
    form.text(60, 280, "Write the points of each question into its box. Leave out what was", 24)
    form.text(60, 308, "not answered; 0 if it was answered, but wrong.", 24)
    for name, box in EXAM_BOXES.items():
        x, y, _, h = box
        if name.startswith("question"):
            form.text(x - 250, y + h // 2, name.capitalize(), 32)
            form.frame(box)
    form.text(EXAM_BOXES["total"][0] - 250, EXAM_BOXES["total"][1] + 42, "Total", 40)
    form.frame(EXAM_BOXES["total"])
    form.text(60, 1340, "Sheet 1 of 1. Points are added by the examiner.", 24)
    return form.done()


def template(name: str, reference: bytes | None = None) -> Template:
    """Return the template of a form."""
    _, shape, boxes, fields = FORMS[name]
    made = []
    for field, (x, y, w, h) in boxes.items():
        pattern, layout, empty = fields[field]
        shares = (x / shape[1], y / shape[0], w / shape[1], h / shape[0])
        box = tuple(round(share, 4) for share in shares)
        made.append(Field(field, box, pattern, layout, empty))
    return Template(tuple(made), name, reference)


def filled(name: str, values: Mapping[str, str], seed: int) -> NDArray[np.uint8]:
    """Return a form, filled in by our pen and photographed askew: (h, w, 3) uint8."""
    blank, shape, boxes, _ = FORMS[name]
    rng = np.random.default_rng(seed)
    ink = np.zeros(shape, np.float32)
    for field, text in values.items():
        x, y, w, h = boxes[field]
        cells = CELLS.get(field)
        size = 0.62 * h
        for at, line in enumerate(text) if cells else ((0, text),):
            left = x + 18 + at * w / (cells or 1)
            base = y + 0.8 * h + rng.normal(0, 3)
            ink = np.maximum(ink, written(line, left, base, shape, size, rng))
    page = draw.paper(shape, (0.97, 0.97, 0.96), rng, 0.5)
    page *= blank().astype(np.float32)[..., None] / WHITE
    page = draw.inked(page, ink, draw.BLUE_PEN, 0.93)
    light = draw.shadow(shape, 40, 0.6, 0.3, 0.15)
    return draw.photographed(on_table(page * light, rng), rng, blur=0.7, turn=3, tilt=0.01)


def written(
    text: str,
    left: float,
    base: float,
    shape: tuple[int, int],
    size: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a text in our pen's hand, with points as dots: (h, w) float32 in [0, 1]."""
    ink = np.zeros(shape, np.float32)
    for number, part in enumerate(text.split(".")):
        if number:
            cv2.circle(ink, (round(left + 4), round(base - 3)), 4, 1.0, -1, cv2.LINE_AA)
            left += 24
        part_ink = draw.writing([(part, left, base)], shape, size, 4.2, rng, slant=0.1)
        ink = np.maximum(ink, part_ink)
        columns = np.flatnonzero(part_ink.max(axis=0) > 0.3)
        left = float(columns[-1]) + 14 if len(columns) else left
    return ink


def on_table(page: draw.Page, rng: np.random.Generator) -> draw.Page:
    """Return a page as it lies on a wooden table, seen from the side."""
    height, width = page.shape[:2]
    low, high = 0.06, 0.94
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    corners = (corners + rng.uniform(-0.04, 0.04, (4, 2))) * [width, height]
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(frame, corners.astype(np.float32))
    stripes = rng.uniform(0.7, 1.2, (height // 12, 3)).astype(np.float32)
    grain = cv2.resize(stripes, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    table = np.array([0.42, 0.30, 0.20], np.float32) * grain
    seen = cv2.warpPerspective(page, warp, (width, height), flags=cv2.INTER_AREA)
    there = cv2.warpPerspective(np.ones((height, width), np.float32), warp, (width, height))
    return table * (1 - there[..., None]) + seen * there[..., None]


FORMS: dict[
    str,
    tuple[
        Callable[[], NDArray[np.uint8]], tuple[int, int], Boxes, dict[str, tuple[str, str, bool]]
    ],
] = {
    "slip": (slip, SLIP, SLIP_BOXES, SLIP_FIELDS),
    "exam": (exam, EXAM, EXAM_BOXES, EXAM_FIELDS),
}
"""Name -> the function that draws the blank form, its size, the boxes of its fields, and what they hold."""

VALUES: dict[str, dict[str, str]] = {
    "slip": {
        "account": "40728153",
        "date": "26.11.2026",
        "amount": "318.50",
        "reference": "602914738",
    },
    "exam": {
        "student": "2093817",
        **{f"question {i}": str(p) for i, p in enumerate((8, 10, 7, 0, 12, 5), 1)},
        **{f"question {i}": str(p) for i, p in enumerate((9, 3, 6, 14, 4), 7)},
        "total": "78",
    },
}
"""What is written on the filled forms."""


def main() -> None:
    """Write the blank forms, their templates, the filled forms, and what stands in them."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "field", "text"))
    for seed, (name, (blank, _, _, _)) in enumerate(FORMS.items()):
        content = io.BytesIO()
        Image.fromarray(blank()).quantize(16).save(content, "PNG", optimize=True)
        write_bytes(FOLDER / f"{name}.png", content.getvalue())
        write_bytes(FOLDER / f"{name}.toml", template(name).to_toml(f"{name}.png").encode())
        content = io.BytesIO()
        photo = Image.fromarray(filled(name, VALUES[name], 300 + seed))
        photo.save(content, "JPEG", quality=60, optimize=True)
        write_bytes(FOLDER / f"{name}-filled.jpg", content.getvalue())
        for field in template(name).fields:
            rows.writerow((f"{name}-filled.jpg", field.name, VALUES[name].get(field.name, "")))
    write_bytes(FOLDER / "truth.csv", table.getvalue().encode())


if __name__ == "__main__":
    main()
