"""The curves of a training as a small SVG, for notebooks; the report's are drawn by matplotlib."""

import html
from collections.abc import Sequence

from digitry.training.epochs import Epoch

WIDTH, HEIGHT, MARGIN = 280, 150, 30
_TRAINED, _HELD = "#0072b2", "#d55e00"


def to_svg(history: Sequence[Epoch]) -> str:
    """Return loss and accuracy by epoch: on the training images, and on the held-out ones if any."""
    panels = (
        ("loss", [one.loss for one in history], [one.val_loss for one in history]),
        ("accuracy", [one.accuracy for one in history], [one.val_accuracy for one in history]),
    )
    drawn = "".join(
        f'<g transform="translate({place * WIDTH},0)">{_panel(name, trained, held)}</g>'
        for place, (name, trained, held) in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="10">{drawn}</svg>'
    )


def _panel(name: str, trained: Sequence[float], held: Sequence[float | None]) -> str:
    known = [value for value in held if value is not None]
    low, high = min([*trained, *known]), max([*trained, *known])
    lines = [_line(trained, low, high, _TRAINED)]
    keys = [f'<tspan fill="{_TRAINED}">training</tspan>']
    if len(known) == len(trained):
        lines.append(_line(known, low, high, _HELD))
        keys.append(f'<tspan fill="{_HELD}">held out</tspan>')
    bottom = HEIGHT - MARGIN
    return (
        f'<text x="{MARGIN}" y="14" font-weight="bold">{html.escape(name)}</text>'
        f'<text x="{WIDTH - 10}" y="14" text-anchor="end">{" ".join(keys)}</text>'
        f'<text x="{MARGIN - 4}" y="{MARGIN + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{MARGIN - 4}" y="{bottom + 4}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 12}">1</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 12}" text-anchor="end">epoch {len(trained)}</text>'
        f"{''.join(lines)}"
    )


def _line(values: Sequence[float], low: float, high: float, colour: str) -> str:
    wide, tall = WIDTH - MARGIN - 10, HEIGHT - 2 * MARGIN
    points = [
        (
            MARGIN + wide * at / max(len(values) - 1, 1),
            MARGIN + tall * ((high - value) / (high - low) if high > low else 0.5),
        )
        for at, value in enumerate(values)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
