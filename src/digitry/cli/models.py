"""The verbs on installed models: `models list|promote|rollback|uncalibrate`, and the card."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry.cli.app import TEACH, app
from digitry.cli.card import calibration_text, card_text, model_facts
from digitry.cli.options import AsFormat, Format
from digitry.cli.text import console_for, print_json, table_of
from digitry.errors import ModelError, UsageError

LINES = "lines"
"""The name of the line network; `model.line_network` has it, too, and loads NumPy."""

if TYPE_CHECKING:
    from digitry.model.artifact import Artifact
    from digitry.model.line_network import LineNetwork

group = typer.Typer(
    name="models",
    help="List the shipped models and your versions of them, and choose which version is used.",
    invoke_without_command=True,
)
app.add_typer(group, rich_help_panel=TEACH)

BY_HAND = "promoted by hand"


@group.callback()
def models(
    context: typer.Context,
    card: Annotated[
        str | None,
        typer.Option(help="Print the model card of a model's name, .onnx file or run folder."),
    ] = None,
    format_: AsFormat = Format.TEXT,
) -> None:
    """List the shipped models and your versions of them, or print a model card."""
    if context.invoked_subcommand is not None:
        if card is not None:
            raise UsageError(
                f"cannot be used with `{context.invoked_subcommand}`",
                where="--card",
                remedy=f"digitry models --card {card}",
            )
        return
    if card is None:
        _list(format_)
        return
    from digitry.model.load import load_model

    facts = model_facts(load_model(card))
    if format_ is Format.JSON:
        print_json(facts)
    else:
        print(card_text(facts))


@group.command("list")
def list_(format_: AsFormat = Format.TEXT) -> None:
    """List the shipped models and your versions of them, and show which version is the default."""
    _list(format_)


@group.command()
def promote(
    model: Annotated[str, typer.Argument(help="A version from `digitry models list`: reader@2.")],
    despite_gate: Annotated[
        bool,
        typer.Option("--despite-gate", help="Also if the version has not passed the gate."),
    ] = False,
) -> None:
    """Make a version the default of its name; reader@shipped is the model of the package."""
    from digitry.model import versions
    from digitry.model.load import SHIPPED

    name, at, _ = model.partition("@")
    if name not in (*SHIPPED, LINES) or not at:
        raise UsageError(
            f"{model!r} is not a version", remedy="write e.g. reader@2; see `digitry models list`"
        )
    # Load it first: a model that cannot be loaded must not become the default.
    loaded = _loaded(model)
    number = None if loaded.version == versions.SHIPPED_VERSION else int(loaded.version or 0)
    if number is not None:
        version = versions.find(name, number)
        if version.state == versions.CANDIDATE and not (version.passed or despite_gate):
            raise UsageError(
                f"has not passed the gate: {version.reason}",
                where=model,
                remedy="correct more images and train again, or add --despite-gate",
            )
    versions.promote(name, number, reason=BY_HAND)
    print(f"{model} is now the default of {name}")


@group.command()
def rollback(
    name: Annotated[str, typer.Argument(help="A shipped model's name.")] = "reader",
) -> None:
    """Make the previous default the default again; the first is always the shipped model."""
    from digitry.model import versions
    from digitry.model.load import SHIPPED

    names = (*SHIPPED, LINES)
    if name not in names:
        raise UsageError(
            f"no shipped model is called {name!r}", remedy=f"choose from: {', '.join(names)}"
        )
    number = versions.roll_back(name, reason="rolled back by hand")
    print(f"{name}@{number or versions.SHIPPED_VERSION} is now the default of {name}")


@group.command()
def uncalibrate(
    model: Annotated[
        str, typer.Argument(help="A shipped model's name, a .onnx file, or a run folder.")
    ] = "reader",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing.")] = False,
) -> None:
    """Remove the calibration that `digitry calibrate` saved; the model uses its own again."""
    from digitry.model import calibration_file
    from digitry.model.line_network import calibration_path as lines_path
    from digitry.model.load import calibration_path

    path = lines_path(model) if model.partition("@")[0] == LINES else calibration_path(model)
    removed = calibration_file.remove(path)
    if quiet:
        return
    if removed:
        print(f"removed {path}; {model} uses its own calibration again")
    else:
        print(f"{model} has no calibration")


def _list(format_: str) -> None:
    from digitry.model.load import SHIPPED

    rows: list[dict[str, Any]] = []
    broken: list[ModelError] = []
    for name in (*SHIPPED, LINES):
        found, damaged = _versions(name)
        rows += found
        broken += damaged
    if format_ is Format.JSON:
        print_json(rows)
    else:
        _print(rows)
    for damage in broken:
        print(f"digitry: {damage}", file=sys.stderr)
    if broken:
        raise typer.Exit(1)


def _versions(name: str) -> tuple[list[dict[str, Any]], list[ModelError]]:
    """Return a row for a shipped model and for each of its versions, and what is damaged."""
    from digitry.model import versions

    found, broken = versions.versions(name)
    try:
        default = versions.default_number(name)
    except ModelError as error:
        default = None
        broken.append(error)
    state = versions.DEFAULT if default is None else versions.SHIPPED_VERSION
    try:
        rows = [_row(_loaded(f"{name}@{versions.SHIPPED_VERSION}"), state, "part of digitry", {})]
    except OSError as error:
        raise ModelError(
            "is missing from this installation", where=name, remedy="install digitry again"
        ) from error
    for version in found:
        try:
            loaded = _loaded(version.reference)
        except ModelError as error:
            broken.append(error)
            continue
        rows.append(_row(loaded, version.state, version.reason, version.to_dict()))
    return rows, broken


def _loaded(reference: str) -> "Artifact | LineNetwork":
    from digitry.model.line_network import load_lines
    from digitry.model.load import load_model

    return load_lines(reference) if reference.startswith(f"{LINES}@") else load_model(reference)


def _row(
    loaded: "Artifact | LineNetwork", state: str, reason: str, gate: dict[str, Any]
) -> dict[str, Any]:
    from digitry.model.artifact import Artifact

    facts = model_facts(loaded) if isinstance(loaded, Artifact) else _line_facts(loaded, gate)
    return {
        **facts,
        "version": loaded.version,
        "reference": loaded.reference,
        "state": state,
        "reason": reason,
        "parent_sha256": gate.get("parent_sha256", ""),
        "gate_scores": gate.get("scores", {}),
    }


def _line_facts(loaded: "LineNetwork", gate: dict[str, Any]) -> dict[str, Any]:
    own = loaded.calibration
    return {
        "name": LINES,
        "sha256": loaded.sha256,
        "bytes": len(loaded.onnx),
        "created": gate.get("created", ""),
        "scores": dict(own.scores),
        "calibration": None,
        "line_calibration": own.to_dict() if loaded.is_users else None,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    table = table_of("model", "state", "size>", "created", "scores", "reason")
    for row in rows:
        scores = row["gate_scores"] or row["scores"]
        table.add_row(
            f"[bold]{row['reference']}[/]",
            row["state"],
            f"{row['bytes'] / 1e6:.2f} MB",
            row["created"][:16].replace("T", " ") or "–",
            "\n".join(f"{key} {value:.4f}" for key, value in scores.items()) or "–",
            row["reason"],
        )
    console_for().print(table)
    for row in rows:
        if row.get("line_calibration"):
            own = row["line_calibration"]
            print(f"{row['reference']} is calibrated to {own['lines']:,} lines of {own['source']}")
        if row["calibration"]:
            print(f"{row['reference']} is calibrated to {calibration_text(row['calibration'])}")
