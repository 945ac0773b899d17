"""`digitry train reader`: the parts of the shipped reader, one after the other."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from digitry.cli.options import recipe_settings
from digitry.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.reader import Much, Part

SETTINGS: "Mapping[Part, tuple[str, ...]]" = {
    "finder": ("samples", "seconds"),
    "lines": ("samples", "seconds", "rate", "moved"),
}
"""What `--set` sets of a network that finds or reads lines."""

READER = "reader"
"""What `digitry train` is given instead of a recipe."""


def train_reader(
    parts: Sequence[str],
    set_: list[str] | None,
    out: Path | None,
    resume: Path | None,
    *,
    from_: str | None,
    trust: bool,
    data_dir: Path | None,
    device: str,
    seed: int | None,
    console: "Console | None",
) -> None:
    """Train all parts of the reader, or those named, and print the file of each."""
    from digitry.training.reader import PARTS, train_part

    chosen = _chosen(parts)
    if from_ is not None and len(chosen) > 1 and "glyph" not in chosen:
        raise UsageError("which part starts from it?", where="--from", remedy="train lines alone")
    much = {part: _much(part, chosen, set_, from_, trust) for part in chosen}
    if resume is not None and not resume.is_dir():
        raise UsageError("is no folder", where=str(resume), remedy="name the --out of a training")
    if resume is not None and out not in (None, resume):
        raise UsageError("--out and --resume name two folders", remedy="name one of them")
    folder = resume or out or Path("runs") / READER
    for part in PARTS:
        if part not in chosen:
            continue
        built = train_part(
            part,
            folder,
            much[part],
            data_dir=data_dir,
            device=device,
            seed=seed or 0,
            console=console,
        )
        print(f"{built.path}: {built.samples:,} samples in {built.seconds:,.0f} s")
        if built.interrupted:
            raise typer.Exit(130)


def _chosen(parts: Sequence[str]) -> "list[Part]":
    from digitry.training.reader import PARTS

    for part in parts:
        if part not in PARTS:
            raise UsageError(
                f"{part!r} is no part of the reader",
                where="--part",
                remedy=f"choose from: {', '.join(PARTS)}",
            )
    return [part for part in PARTS if part in parts or not parts]


def _much(
    part: "Part", chosen: "list[Part]", set_: list[str] | None, from_: str | None, trust: bool
) -> "Much":
    """Return how much a part learns, from `--set PART.FIELD=VALUE` and `--from`."""
    from digitry.model.line_network import load_lines
    from digitry.training.reader import Much

    own = _own(part, chosen, set_)
    if part == "glyph":
        return _much_of_glyph(own, from_, trust)
    fields = SETTINGS[part]
    if not set(own) <= set(fields):
        raise UsageError(
            f"{part} takes {', '.join(fields)} alone", where="--set", remedy="leave the rest out"
        )
    # With several parts, the model to start from is the glyph model's.
    start = from_ if len(chosen) == 1 else None
    if part == "finder" and start is not None:
        raise UsageError(
            "the finder cannot start from another network", where="--from", remedy="leave it out"
        )
    numbers = {field: _number(field, value) for field, value in own.items()}
    network = None if start is None else load_lines(start, calibrated=False)
    return Much(
        samples=numbers.get("samples"),
        seconds=numbers.get("seconds", math.inf),
        rate=numbers.get("rate"),
        start=network,
        moved=numbers.get("moved", 1.0),
    )


def _own(part: "Part", chosen: "list[Part]", set_: list[str] | None) -> dict[str, str]:
    """Return the fields that `--set` gives a part, as text."""
    own: dict[str, str] = {}
    for name, value in recipe_settings(set_, None, None).items():
        whose, dot, field = name.rpartition(".")
        if not dot and len(chosen) > 1:
            raise UsageError(
                f"{name} of which part?", where="--set", remedy=f"write {chosen[0]}.{name}={value}"
            )
        if dot and whose not in chosen:
            raise UsageError(
                f"{whose!r} is no part that is trained",
                where="--set",
                remedy=f"choose from: {', '.join(chosen)}",
            )
        if not dot or whose == part:
            own[field] = value
    return own


def _much_of_glyph(own: dict[str, str], from_: str | None, trust: bool) -> "Much":
    from digitry.training import recipes
    from digitry.training.loop.start_from import parent_of
    from digitry.training.reader import Much

    if "seconds" in own:
        raise UsageError(
            "glyph is trained by epochs", where="--set", remedy="set samples, and epochs"
        )
    samples = _number("samples", own.pop("samples")) if "samples" in own else None
    recipe = recipes.find("glyph").override(own)
    parent = None if from_ is None else parent_of(from_, recipe, trust=trust)
    return Much(samples=samples, settings=own, parent=parent)


def _number(field: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UsageError(
            f"{value!r} is not a number above 0",
            where=f"--set {field}",
            remedy=f"give, for example, {field}=3600",
        )
    return number
