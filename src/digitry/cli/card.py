"""The model card: what a model file says of itself, as JSON values and as Markdown."""

from typing import Any

from digitry.cli.text import percent


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
    from digitry.model.load import SHIPPED

    recipe = facts["recipe"]
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
        *([_score_line(*score) for score in facts["scores"].items()] or ["- none stated"]),
        "",
        "## Calibration",
        *_calibration_lines(facts),
        "",
        "## Limits",
        *_limit_lines(facts),
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


def _calibration_lines(facts: dict[str, Any]) -> list[str]:
    own, curve = facts["calibration"], facts["risk_coverage"]
    how = ": not fitted, confidences are the network's own"
    if own:
        how = f", fitted to your own images: {calibration_text(own)}"
    elif "members" in facts["recipe"]:
        how = ": the mean of its members, each calibrated separately"
    elif facts["temperature"] != 1 or curve:
        how = ", fitted on held-out data"
    lines = [f"- temperature {facts['temperature']:.3f}{how}"]
    lines += [] if own else _gap_lines(facts["scores"])
    rows = [row for row in curve if row[1] <= 0.01]
    if rows:
        threshold, error, coverage = max(rows, key=lambda row: row[2])
        lines.append(
            f"- with confidence {threshold:.4f} or more, at most {percent(error)} are wrong (95% "
            f"confidence) and {percent(coverage)} were answered, on your own images"
            if own
            else f"- with confidence {threshold:.4f} or more, {percent(error)} were wrong and "
            f"{percent(coverage)} were answered, on held-out data"
        )
    return lines


def _limit_lines(facts: dict[str, Any]) -> list[str]:
    from digitry.model.artifact import NOT_A_DIGIT

    return [
        "- handwritten digits 0 to 9; no letters, no printed type, no signs",
        "- confidences and thresholds hold for images like "
        + ("those it is calibrated to" if facts["calibration"] else "its data")
        + "; `digitry calibrate` fits them to your own images",
        "- it can answer `not a digit`, but only for shapes like those in its data"
        if NOT_A_DIGIT in facts["labels"]
        else "- it cannot answer `not a digit`: it reads every shape as a digit",
    ]


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


def _score_line(name: str, value: float) -> str:
    known = _SCORES.get(name.rpartition("/")[2])
    return f"- {name}: {value:.4f}" + (f" ({known})" if known else "")


def _gap_lines(scores: dict[str, float]) -> list[str]:
    """Return one line per data set that has an ECE before and after calibration."""
    lines = []
    for name, error in scores.items():
        where, _, what = name.rpartition("/")
        calibrated = scores.get(f"{where}/calibrated_ece")
        if what == "ece" and calibrated is not None:
            text = f"- on {where} confidences are off by {percent(calibrated)} on average"
            lines.append(text + (f", {percent(error)} before" if error != calibrated else ""))
    return lines


_MODELS = {
    "teacher": "a model whose probabilities it also learned from",
    "parent": "the model whose weights its training started from",
}


def _data_lines(data: dict[str, str]) -> list[str]:
    from digitry.training.data.dataset import COMPOSED, LICENCES, ORIGINS, OWN

    lines = []
    for name, digest in data.items():
        if name in _MODELS:
            lines += [f"- {_MODELS[name]}", f"  sha256 {digest}"]
            continue
        kind = COMPOSED.sub(r"\1", name)
        lines += [
            f"- {name}: {ORIGINS.get(kind, 'a data set of whoever trained it')}",
            f"  licence: {LICENCES.get(kind, OWN)}",
            f"  sha256 {digest}",
        ]
    return lines
