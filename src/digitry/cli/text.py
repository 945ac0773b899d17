"""What the verbs on models print: tables, results, model cards."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    for name, text in (
        ("test accuracy", _with_interval(test.accuracy, test.interval)),
        *([("undisputed", _undisputed(test))] if test.accuracy_undisputed is not None else []),
        ("test loss", f"{test.loss:.4f}"),
        ("ECE", f"{test.ece:.4f}{calibrated}"),
        (
            "example",
            f"test image {example['index']}: predicted {predicted}, actual {example['actual']} "
            f"(confidence {_percent(example['confidence'])})",
        ),
        (
            "training",
            f"{metrics['fit_seconds']:.2f} s for {epochs} epoch{'' if epochs == 1 else 's'}, "
            f"{metrics['parameters']:,} parameters",
        ),
        ("run folder", str(finished.folder)),
        ("report", str(page) if page else "not requested"),
    ):
        print(f"  {name:<14} {text}")


def print_taught(taught: "Taught") -> None:
    """Print the scores and the decision of the gate; nothing if the training was interrupted."""
    verdict, version = taught.verdict, taught.version
    if verdict is None or version is None:
        return
    for name, text in (
        (
            "corrections",
            f"{taught.learnt} trained on, {verdict.held} held out: "
            f"{verdict.held_before} of these right before, {verdict.held_after} now",
        ),
        (
            "frozen MNIST",
            f"{100 * verdict.frozen_before:.2f}% right before, {100 * verdict.frozen_after:.2f}% now",
        ),
        (
            "not a digit",
            f"{100 * verdict.refused_before:.2f}% refused before, "
            f"{100 * verdict.refused_after:.2f}% now",
        ),
    ):
        print(f"  {name:<14} {text}")
    _print_decision(version, verdict, promoted=taught.promoted)


def _print_decision(version: "Version", verdict: "Verdict", *, promoted: bool) -> None:
    if promoted:
        print(f"{version.reference} is now the default version of {version.name}")
    elif verdict.passed:
        print(f"{version.reference} stays a candidate: the default changed during the training")
    else:
        print(f"{version.reference} stays a candidate: {verdict.summary}")


def print_taught_lines(taught: "TaughtLines") -> None:
    """Print the scores of a taught line network, and the decision of the gate."""
    verdict, version = taught.verdict, taught.version
    print(
        f"  corrections    {taught.learnt} trained on, {verdict.held} held out: "
        f"{verdict.held_before} of these right before, {verdict.held_after} now"
    )
    rows = zip(
        verdict.kinds, verdict.counts, verdict.right_before, verdict.right_after, strict=True
    )
    for kind, count, before, after in rows:
        print(f"  {kind:<14} {before} of {count} right before, {after} now")
    _print_decision(version, verdict, promoted=taught.promoted)


def print_evaluation(model: str, data: str, result: "Evaluation") -> None:
    """Print the scores of a model, overall and per digit."""
    from digitry.training.evaluation.scores import wilson

    print(f"{model} on {data}: {result.count:,} test images")
    print(f"  accuracy    {_with_interval(result.accuracy, result.interval)}")
    if result.accuracy_undisputed is not None:
        print(f"  undisputed  {_undisputed(result)}")
    if result.accuracy_forced is not None:
        print(f"  refused     {_percent(result.refused)} of the digits, as not a digit")
        print(f"  likeliest   {_percent(result.accuracy_forced)} right if no digit were refused")
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
            _percent(one.precision),
            _percent(one.recall),
            f"{_percent(low)} to {_percent(high)}",
            _percent(one.f1),
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
        print(f"  refused         {_percent(found.refused)}, as not a digit")
        print(f"  likeliest digit {_percent(found.forced_error)} wrong if no digit were refused")
    print(
        f"  as in MNIST-C   {_percent(found.published_error)} wrong, at the severities of MNIST-C"
    )
    print(f"  clean           {_percent(found.clean_error)}")
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
    return f"{_percent(share)} (95% interval {_percent(low)} to {_percent(high)})"


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
        accuracy = _percent(score["accuracy"])
        table.add_row(
            one.name,
            one.recipe.name,
            f"[bold green]{accuracy}[/]" if score["accuracy"] == best else accuracy,
            f"{_percent(low)} to {_percent(high)}",
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


def model_facts(loaded: Any) -> dict[str, Any]:
    """Return a model file's metadata, source, size and sha256 as JSON values."""
    facts = loaded.metadata.to_dict()
    facts["labels"] = list(loaded.metadata.labels)
    facts["risk_coverage"] = [list(row) for row in loaded.metadata.risk_coverage]
    facts["calibration"] = None
    if loaded.calibration is not None:
        # Its temperature and curve are in the facts already, as those in use.
        facts["calibration"] = loaded.calibration.to_dict()
        del facts["calibration"]["temperature"], facts["calibration"]["risk_coverage"]
    return {**facts, "source": loaded.source, "bytes": len(loaded.onnx), "sha256": loaded.sha256}


def calibration_text(calibration: dict[str, Any]) -> str:
    """Return a short text on a model's calibration, from the `calibration` of `model_facts`."""
    when = f", {calibration['created'][:10]}" if calibration["created"] else ""
    return f"{calibration['source']} ({calibration['digits']:,} digits{when})"


def card_text(facts: dict[str, Any]) -> str:
    """Return a model card in Markdown from `model_facts`."""
    from digitry.model.artifact import NOT_A_DIGIT
    from digitry.model.load import SHIPPED

    recipe = facts["recipe"]
    refuses = NOT_A_DIGIT in facts["labels"]
    curve = facts["risk_coverage"]
    rows = [row for row in curve if row[1] <= 0.01]
    calibrated = facts["temperature"] != 1 or bool(curve)
    joined = "members" in recipe
    lines = [
        f"# {facts['name']}",
        "",
        f"Reads one handwritten digit from a 28 x 28 glyph. {facts['bytes'] / 1e6:.2f} MB, "
        f"{len(facts['labels'])} labels, glyph version {facts['glyph_version']}.",
        f"Made by digitry {facts['digitry'] or 'of unknown version'}"
        + (f", {facts['created']}." if facts["created"] else "."),
        f"sha256 {facts['sha256']}",
        "",
        "## Data",
        *(_data_lines(facts["data"]) or ["- unknown"]),
        "",
        "## Scores",
        *(
            [f"- {_score_text(name, value)}" for name, value in facts["scores"].items()]
            or ["- none stated"]
        ),
        "",
        "## Calibration",
        f"- temperature {facts['temperature']:.3f}"
        + (
            f", fitted to your own images: {calibration_text(facts['calibration'])}"
            if facts["calibration"]
            else ": the mean of its members, each calibrated separately"
            if joined
            else ", fitted on held-out data"
            if calibrated
            else ": not fitted, confidences are the network's own"
        ),
        *([] if facts["calibration"] else _calibration_lines(facts["scores"])),
    ]
    if rows:
        threshold, error, coverage = max(rows, key=lambda row: row[2])
        lines.append(
            f"- with confidence {threshold:.4f} or more, at most {_percent(error)} are wrong (95% "
            f"confidence) and {_percent(coverage)} were answered, on your own images"
            if facts["calibration"]
            else f"- with confidence {threshold:.4f} or more, {_percent(error)} were wrong and "
            f"{_percent(coverage)} were answered, on held-out data"
        )
    lines += [
        "",
        "## Limits",
        "- handwritten digits 0 to 9; no letters, no printed type, no signs",
        "- confidences and thresholds hold for images like "
        + ("those it is calibrated to" if facts["calibration"] else "its data")
        + "; `digitry calibrate` fits them to your own images",
        "- it can answer `not a digit`, but only for shapes like those in its data"
        if refuses
        else "- it cannot answer `not a digit`: it reads every shape as a digit",
        "",
        "## Recipe",
        *(_recipe_lines(recipe) or ["- unknown"]),
        "",
        "## Licence",
        "- the model: Apache-2.0, as digitry"
        if facts["source"] in SHIPPED
        else "- the model: its trainer decides; digitry claims no rights in models trained with it",
        "- the data: see Data above, each set under its own licence",
    ]
    return "\n".join(lines)


def _recipe_lines(recipe: dict[str, Any]) -> list[str]:
    """Return one line per field, and one per member of an ensemble: name and sha256."""
    lines = []
    for name, value in recipe.items():
        # The file may come from anywhere, so its types are checked.
        if name == "members" and isinstance(value, list):
            members = [one for one in value if isinstance(one, dict)]
            lines += [
                f"- member {number}: {one.get('name')}, sha256 {one.get('sha256')}"
                for number, one in enumerate(members, 1)
            ]
        else:
            lines.append(f"- {name}: {value}")
    return lines


_SCORES = {
    "accuracy": "read right",
    "accuracy_undisputed": "read right, without disputed labels",
    "accuracy_forced": "digits whose likeliest digit is right, refused or not",
    "loss": "cross-entropy in nats",
    "ece": "expected calibration error, as trained",
    "calibrated_ece": "expected calibration error, calibrated",
}


def _score_text(name: str, value: float) -> str:
    known = _SCORES.get(name.rpartition("/")[2])
    return f"{name}: {value:.4f}" + (f" ({known})" if known else "")


def _calibration_lines(scores: dict[str, float]) -> list[str]:
    """Return one line per data set that has an ECE before and after calibration."""
    lines = []
    for name, error in scores.items():
        where, _, what = name.rpartition("/")
        calibrated = scores.get(f"{where}/calibrated_ece")
        if what == "ece" and calibrated is not None:
            text = f"- on {where} confidences are off by {_percent(calibrated)} on average"
            lines.append(text + (f", {_percent(error)} before" if error != calibrated else ""))
    return lines


_MODELS = {
    "teacher": "a model whose probabilities it also learned from",
    "parent": "the model whose weights its training started from",
}


def _data_lines(data: dict[str, str]) -> list[str]:
    from digitry.training.data.dataset import LICENCES, ORIGINS, OWN

    lines = []
    for name, digest in data.items():
        if name in _MODELS:
            lines += [f"- {_MODELS[name]}", f"  sha256 {digest}"]
            continue
        lines += [
            f"- {name}: {ORIGINS.get(name, 'a data set of whoever trained it')}",
            f"  licence: {LICENCES.get(name, OWN)}",
            f"  sha256 {digest}",
        ]
    return lines


def _percent(share: float) -> str:
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
