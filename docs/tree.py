"""The picture of the tree, docs/tree.svg: rooms in their layers, from the tree and the layers as written.

docs/architecture.md has both as text; tests hold it to the code. `make docs` draws the picture from it.
"""

import re
from html import escape

WIDTH, ROW, GAP, MARGIN = 960, 76, 14, 16
FOUNDATION = "places, files, errors, …"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif'"
COLOURS = ("#dfe8fb", "#e4f3ea", "#fdf0e7", "#f3e8fb", "#e8eef5", "#f5f6f8")


def rooms(text: str) -> dict[str, str]:
    """Return the rooms of the tree in docs/architecture.md: folder -> what it turns into what."""
    tree = text.split("```")[1]
    # `  reading/            IMAGE BYTES -> DIGITS                     the base install`
    found = re.findall(r"^  (\w+)/ +([A-Z][A-Z ,>-]+[A-Z])(?= {2,}|:|$)", tree, re.M)
    return {name: (what[0] + what[1:].lower()).replace("->", "→") for name, what in found}


def layers(text: str) -> list[list[str]]:
    """Return the layers of the same page, from top to bottom, each with its rooms."""
    written = re.search(r"^## Layers\n\n(.+? > `errors`)", text, re.M)
    if written is None:
        raise ValueError("docs/architecture.md: has no line of layers")
    return [re.findall(r"\w+", layer) for layer in written[1].split(">")]


def picture(text: str) -> str:
    """Return the picture as SVG.

    Args:
        text: of docs/architecture.md.

    Raises:
        ValueError: it has no layers.
    """
    known = rooms(text)
    rows = [[name for name in layer if name in known] for layer in layers(text)]
    rows = [row for row in rows if row]
    height = 2 * MARGIN + (len(rows) + 1) * (ROW + GAP) + 14
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' {FONT}>",
        "<title>The rooms of src/digitry in their layers</title>",
        f"<rect width='{WIDTH}' height='{height}' rx='8' fill='#ffffff'/>",
    ]
    for number, row in enumerate([*rows, [FOUNDATION]]):
        top = MARGIN + number * (ROW + GAP)
        width = (WIDTH - 2 * MARGIN - (len(row) - 1) * GAP) / len(row)
        for place, name in enumerate(row):
            left = MARGIN + place * (width + GAP)
            colour = COLOURS[min(number, len(COLOURS) - 1)]
            middle = left + width / 2
            what = known.get(name, "the ground that all rooms stand on")
            parts += [
                f"<rect x='{left:g}' y='{top}' width='{width:g}' height='{ROW}' rx='6' fill='{colour}'/>",
                f"<text x='{middle:g}' y='{top + 33}' text-anchor='middle' font-size='18' "
                f"font-weight='600' fill='#16181d'>{escape(name)}{'/' * (name in known)}</text>",
                f"<text x='{middle:g}' y='{top + 56}' text-anchor='middle' font-size='13' "
                f"fill='#4a5160'>{escape(what)}</text>",
            ]
    parts.append(
        f"<text x='{WIDTH / 2:g}' y='{height - MARGIN}' text-anchor='middle' font-size='13' "
        "fill='#4a5160'>A room uses the rooms below it, never one above or beside it.</text>"
    )
    return "\n".join([*parts, "</svg>", ""])
