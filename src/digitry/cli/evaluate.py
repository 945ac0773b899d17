"""The verb that measures a model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitry.cli.app import TRAIN, app
from digitry.cli.options import (
    DATA_HELP,
    AsFormat,
    DataDir,
    Format,
    MeasuredModel,
    Quiet,
    Trust,
    loaded_model,
    modules_for_data,
    require_training,
)
from digitry.cli.text import console_for, print_evaluation, print_json, print_robustness
from digitry.errors import UsageError

if TYPE_CHECKING:
    from digitry.training.data.dataset import Dataset
    from digitry.training.evaluation.robustness import Robustness


@app.command(rich_help_panel=TRAIN)
def evaluate(
    model: MeasuredModel,
    data: Annotated[
        str | None,
        typer.Option(help=f"{DATA_HELP} Its test part is used. Default: the run's data set."),
    ] = None,
    data_dir: DataDir = None,
    corrupt: Annotated[
        bool,
        typer.Option(
            "--corrupt",
            help="Also measure on the same images under the fifteen corruptions of MNIST-C.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --corrupt: folder for robustness.json, robustness.png and corruptions.png."
        ),
    ] = None,
    trust: Trust = False,
    format_: AsFormat = Format.TEXT,
    quiet: Quiet = False,
) -> None:
    """Measure a model on the test images of a data set."""
    if out is not None and not corrupt:
        raise UsageError("is used only with --corrupt", where="--out", remedy="add --corrupt")
    loaded = loaded_model(
        model,
        *(("matplotlib",) if out is not None else ()),
        trust=trust,
        tell=lambda line: print(f"digitry: {model}: {line}", file=sys.stderr),
    )
    from digitry.training import datasets
    from digitry.training.evaluation import scores

    source, folder = _data_of(model, data, data_dir, loaded.metadata.recipe)
    require_training(*modules_for_data(source))
    console = None if quiet else console_for(stderr=True)
    dataset = datasets.load_dataset(source, data_dir=folder, console=console)
    result, _ = scores.evaluate(loaded, dataset.test)
    facts: dict[str, Any] = {
        "model": {
            "name": loaded.metadata.name,
            "source": loaded.source,
            "sha256": loaded.sha256,
            "labels": list(loaded.metadata.labels),
        },
        "data": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "licence": dataset.licence,
            "test_images": len(dataset.test),
        },
        "test": result.to_dict(),
    }
    name = loaded.metadata.name
    if format_ is Format.TEXT:
        print_evaluation(name, dataset.name, result)
    if corrupt:
        from digitry.training.evaluation import robustness

        found = robustness.robustness(loaded, dataset.test, console=console)
        facts["robustness"] = found.to_dict()
        written = [] if out is None else _write_robustness(facts, found, dataset, name, out)
        if format_ is Format.TEXT:
            print_robustness(found)
            print(*written, sep="\n", end="\n" if written else "")
    if format_ is Format.JSON:
        print_json(facts)


def _write_robustness(
    facts: dict[str, Any], found: "Robustness", dataset: "Dataset", name: str, out: Path
) -> list[Path]:
    """Write the scores on corrupted images and two pictures of them; return the files."""
    from digitry import files
    from digitry.training.report import robustness_plot

    files.write_json(out / "robustness.json", facts)
    return [
        out / "robustness.json",
        robustness_plot.write_robustness(found, f"{name} on {dataset.name}", out),
        robustness_plot.write_corruptions(dataset.test.images[:15], out),
    ]


def _data_of(
    model: str, data: str | None, data_dir: Path | None, recipe: Any
) -> tuple[str, Path | None]:
    """Return the data set to measure on: the user's choice, else the one the model was trained on."""
    from digitry.model.load import SHIPPED
    from digitry.training import datasets, run_folder
    from digitry.training.data.dataset import WITH_CORRECTIONS

    if data is not None:
        return data, data_dir
    path = Path(model)
    # A model file inside a run folder uses the run's data; a shipped model's name is not a path.
    home = path.parent if path.is_file() else path
    if model not in SHIPPED and (home / run_folder.ARGUMENTS).exists():
        begun = run_folder.load_arguments(home)
        folder = data_dir or (Path(begun.data_dir) if begun.data_dir else None)
        return ("mnist" if begun.data == WITH_CORRECTIONS else begun.data), folder
    known = recipe.get("data", "mnist")
    # What the shipped model learnt from is not on every machine.
    return (known if datasets.is_named(known) and model not in SHIPPED else "mnist"), data_dir
