"""What the verbs on models print: tables, results, model cards."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from digitry.improve.teach import Taught, TaughtLines
    from digitry.improve.verdict import Verdict
    from digitry.model.versions import Version
    from digitry.training.evaluation.robustness import Robustness
    from digitry.training.evaluation.scores import Comparison, Evaluation
    from digitry.training.run_folder import Run


def print_run(finished: "Run", page: Path | None) -> None:
    """Print the results of a training: scores, an example, times, and the report's path."""
    from digitry.model.artifact import LABELS

    metrics, test = finished.metrics, finished.test
    example = metrics["example"]
    predicted = LABELS[example["predicted"]]
    epochs = len(finished.history)
    calibrated = (
        f", {test.calibrated_ece:.4f} calibrated at temperature {test.temperature:.2f}"
        if metrics["validation"] is not None
        else " (not calibrated: no images held out)"
    )
    print(f"{finished.recipe.name} on {metrics['data']['name']}")
    _print_rows(
        ("test accuracy", _with_interval(test.accuracy, test.interval)),
        *([("undisputed", _undisputed(test))] if test.accuracy_undisputed is not None else []),
        ("test loss", f"{test.loss:.4f}"),
        ("ECE", f"{test.ece:.4f}{calibrated}"),
        (
            "example",
            f"test image {example['index']}: predicted {predicted}, actual {example['actual']} "
            f"(confidence {percent(example['confidence'])})",
        ),
        (
            "training",
            f"{metrics['fit_seconds']:.2f} s for {epochs} epoch{'' if epochs == 1 else 's'}, "
            f"{metrics['parameters']:,} parameters",
        ),
        ("run folder", str(finished.folder)),
        ("report", str(page) if page else "not requested"),
    )


def _print_rows(*rows: tuple[str, str]) -> None:
    for name, text in rows:
        print(f"  {name:<14} {text}")


def print_taught(taught: "Taught") -> None:
    """Print the scores and the decision of the gate; nothing if the training was interrupted."""
    verdict, version = taught.verdict, taught.version
    if verdict is None or version is None:
        return
    _print_gate(
        taught,
        verdict,
        version,
        (
            "frozen MNIST",
            f"{100 * verdict.frozen_before:.2f}% right before, {100 * verdict.frozen_after:.2f}% now",
        ),
        (
            "not a digit",
            f"{100 * verdict.refused_before:.2f}% refused before, "
            f"{100 * verdict.refused_after:.2f}% now",
        ),
    )


def print_taught_lines(taught: "TaughtLines") -> None:
    """Print the scores of a taught line network, and the decision of the gate."""
    found = taught.verdict
    kinds = zip(found.kinds, found.counts, found.right_before, found.right_after, strict=True)
    rows = [(kind, f"{old} of {count} right before, {now} now") for kind, count, old, now in kinds]
    _print_gate(taught, found, taught.version, *rows)


def _print_gate(
    taught: "Taught | TaughtLines", verdict: "Verdict", version: "Version", *rows: tuple[str, str]
) -> None:
    held = (
        f"{taught.learnt} trained on, {verdict.held} held out: "
        f"{verdict.held_before} of these right before, {verdict.held_after} now"
    )
    _print_rows(("corrections", held), *rows)
    if taught.promoted:
        print(f"{version.reference} is now the default version of {version.name}")
    elif verdict.passed:
        print(f"{version.reference} stays a candidate: the default changed during the training")
    else:
        print(f"{version.reference} stays a candidate: {verdict.summary}")


def print_evaluation(model: str, data: str, result: "Evaluation") -> None:
    """Print the scores of a model, overall and per digit."""
    from digitry.training.evaluation.scores import wilson

    print(f"{model} on {data}: {result.count:,} test images")
    print(f"  accuracy    {_with_interval(result.accuracy, result.interval)}")
    if result.accuracy_undisputed is not None:
        print(f"  undisputed  {_undisputed(result)}")
    if result.accuracy_forced is not None:
        print(f"  refused     {percent(result.refused)} of the digits, as not a digit")
        print(f"  likeliest   {percent(result.accuracy_forced)} right if no digit were refused")
    print(f"  loss        {result.loss:.4f}")
    print(
        f"  ECE         {result.ece:.4f}, {result.calibrated_ece:.4f} calibrated at temperature "
        f"{result.temperature:.2f}"
    )
    table = table_of("digit", "precision>", "recall>", "95% interval>", "F1>", "images>")
    for one in result.classes:
        low, high = wilson(round(one.recall * one.support), one.support) if one.support else (0, 1)
        table.add_row(
            f"[bold]{one.label}[/]",
            percent(one.precision),
            percent(one.recall),
            f"{percent(low)} to {percent(high)}",
            percent(one.f1),
            f"{one.support:,}",
        )
    console_for().print(table)


def print_robustness(found: "Robustness") -> None:
    """Print the errors of a model on corrupted images, by corruption and severity."""
    from digitry.training.evaluation.corruptions import SEVERITIES

    refuses = found.refused > 0
    print(
        f"{found.count:,} of them under {len(found.corruptions)} corruptions at "
        f"{len(SEVERITIES)} severities"
    )
    print(f"  error           {_with_interval(found.mean_error, found.interval)}")
    if refuses:
        print(f"  refused         {percent(found.refused)}, as not a digit")
        print(f"  likeliest digit {percent(found.forced_error)} wrong if no digit were refused")
    print(f"  as in MNIST-C   {percent(found.published_error)} wrong, at the severities of MNIST-C")
    print(f"  clean           {percent(found.clean_error)}")
    columns = [f"{severity}>" for severity in SEVERITIES]
    table = table_of("error", *columns, "mean>", *(["refused>"] if refuses else []))
    for one in sorted(found.corruptions, key=lambda score: score.mean):
        shares = [*one.errors, one.mean]
        shares += [sum(one.refused) / len(one.refused)] if refuses else []
        name = one.name.replace("_", " ")
        table.add_row(f"[bold]{name}[/]", *(f"{100 * share:.1f}%" for share in shares))
    console_for().print(table)


def _with_interval(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{percent(share)} (95% interval {percent(low)} to {percent(high)})"


def _undisputed(result: "Evaluation") -> str:
    share, interval = result.accuracy_undisputed, result.interval_undisputed
    if share is None or interval is None:
        return "–"
    return (
        f"{_with_interval(share, interval)} without the {result.disputed} test images "
        "whose labels are disputed"
    )


def print_comparison(loaded: list["Run"], tests: "list[Comparison | None]") -> None:
    """Print runs as a table, each with the p-value of its test against the first."""
    best = max(one.metrics["test"]["accuracy"] for one in loaded)
    table = table_of(
        "run",
        "recipe",
        "accuracy>",
        "95% interval>",
        "loss>",
        "ECE>",
        "parameters>",
        "fit s>",
        "p>",
    )
    for one, test in zip(loaded, tests, strict=True):
        score = one.metrics["test"]
        low, high = score["interval"]
        accuracy = percent(score["accuracy"])
        table.add_row(
            one.name,
            one.recipe.name,
            f"[bold green]{accuracy}[/]" if score["accuracy"] == best else accuracy,
            f"{percent(low)} to {percent(high)}",
            f"{score['loss']:.4f}",
            f"{score['ece']:.4f}",
            f"{one.metrics['parameters']:,}",
            f"{one.metrics['fit_seconds']:.2f}",
            "–" if test is None else _p_value(test.p_value),
        )
    console_for().print(table)
    print(f"p: McNemar's exact test against {loaded[0].name}, on the same test images")


def _p_value(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def percent(share: float) -> str:
    """Return a share in percent."""
    # Do not round up to a perfect score.
    text = f"{100 * share:.2f}%"
    return "99.99%" if text == "100.00%" and share < 1 else text


def print_json(content: object) -> None:
    """Print a result as JSON."""
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def console_for(*, stderr: bool = False) -> "Console":
    """Return a console on stdout, or on stderr for progress."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # A file or a pipe has no width; 150 keeps tables from being cut.
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 150)


def table_of(*columns: str) -> "Table":
    """Return an empty table; a column whose name ends in `>` is aligned right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(
            name.rstrip(">"), justify="right" if name.endswith(">") else "left", no_wrap=False
        )
    return table
