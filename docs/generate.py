"""Write docs/cli.md from the program, and docs/measured.md and all published numbers from the records.

docs/tree.svg is drawn from docs/architecture.md.

    python docs/generate.py            # write
    python docs/generate.py --check    # write nothing; fail with one line if a file is out of date

Every number that we publish is a record, one JSON file in records/:

    name      the name of the file, without `.json`
    table     the table of the record, e.g. "Reading"; tables and rows are sorted by `name`
    what      what was measured, as text for a table cell
    metric    e.g. "test accuracy"; text after a semicolon goes to the column `beside it`
    unit      "%" (the values are then shares), "s", "MB", "x", ""
    command   the command that measures it again
    commit    the commit that was measured; `date`: ISO 8601
    hardware  the machine, as text
    versions  {"python": ..., "torch": ..., ...}
    data      {name: sha256} of what was read or trained on
    n         the number of runs; `values`: one for each; `mean` and `std` (of a sample; 0 for one)
    extra     any other facts, by name

Every field is required; `extra` may be {}. `name`, `n`, `mean` and `std` are checked.

docs/measured.md shows all records. Some tables stand in other pages, each between `<!-- PLACE:start -->`
and `<!-- PLACE:end -->`; PLACES names them. A single number in the text of README.md or of a page in docs/
is written between `<!-- NAME -->` and `<!-- / -->`, where NAME is the name of the record.
"""

import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tree
import typer.main

from digitry.cli.main import app
from digitry.files import write_text
from digitry.model.load import SHIPPED, load_model
from digitry.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
HOME = "https://github.com/digitry/digitry/blob/main"
"""Where links of README lead to: PyPI shows it, too, and knows no other files."""

PLACES = {"compared": "README.md", "scripts": "docs/keras.md", "recipes": "docs/train.md"}
"""Generated table -> the page that it stands in."""

ELSEWHERE = {"glyph": "reading-mnist-text"}
"""Recipe -> the record of its accuracy, where that is not recipe-NAME."""
COMPARED = {
    "photo, one digit": "Photos of one digit",
    "drawing, one digit": "Drawings of one digit, made with a mouse or a pen",
    "28x28 drawing, one digit": "Drawings of one digit, 28x28 pixels",
    "scans, one digit": "Scans of one digit",
    "photo, several digits": "Photos of several digits",
}
"""Groups of images, as benchmarks/reading.py counts them -> their names in README."""

RIVALS = ("rival-tesseract", "rival-rapidocr")
"""Records of other programs on the same images; a missing one has no column."""

FIRST = (
    "Reading real images",
    "Reading handwriting that is held out of training",
    "Reading forms",
    "The classic way on the same single digits",
    "Other programs on the same images",
    "Knowing when not to know",
    "Calibration of the line network, on hands that did not fit it",
    "Speed",
)
"""The first sections of docs/measured.md: what most people look for."""

ANCESTORS = ("dense-256-128", "dense-512", "dense-128-64", "dense-128-128", "dense-128")
"""The recipes that repeat, setting by setting, five published Keras programs."""

CURRENT = {f"model {name}": load_model(name).sha256 for name in SHIPPED}
"""The shipped models, as records name them in `data`, and their sha256."""

FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "table": str, "what": str, "metric": str, "unit": str, "command": str,
    "commit": str, "date": str, "hardware": str, "versions": dict, "data": dict, "n": int,
    "mean": (int, float), "std": (int, float), "values": list, "extra": dict,
}  # fmt: skip
INTRODUCTION = """\
# The command line

Written by `make docs` from the program. `digitry VERB --help` shows the same text.

Results go to standard output, progress and errors to standard error. Exit codes:
0 done, 1 some inputs failed or the output was closed (a broken pipe), 2 usage, 3 bad data or model,
4 something is missing (an extra, the network), 130 interrupted by Ctrl-C.
"""

MEASURED = """\
# Measured

Written by `make docs` from [`records/`](../records/). Each record has the command, the commit, the
versions and every single value. For several runs the table shows the mean, ± one standard deviation,
and the number of runs in brackets.

Single digits are read with `--layout single`. The photos, scans and drawings come from public
repositories, and we may not redistribute them. No model was trained on them. But mistakes on them showed
which forms of digits to add to our own strokes, and they helped to choose the last stages of the shipped
model: they are not unseen test data. To measure on your own images, run
`python benchmarks/reading.py MANIFEST` with a CSV file with the columns `file` and `label`."""


def cli_page() -> str:
    """Return docs/cli.md: every verb with its arguments and options, in the order of `--help`."""
    parts = [INTRODUCTION]
    for words, command in verbs("digitry", typer.main.get_command(app)):
        parts.append(f"## {words}\n\n{prose((command.help or '').split(chr(12))[0].strip())}\n")
        context = typer.Context(command, info_name=words)
        shown = [param for param in command.params if not getattr(param, "hidden", False)]
        arguments = [param for param in shown if param.param_type_name == "argument"]
        options = [param for param in shown if param.param_type_name == "option"]
        usage = [words, *(["[OPTIONS]"] if options else []), *map(placeholder, arguments)]
        parts.append(f"```\n{' '.join(usage)}\n```\n")
        names = [*map(placeholder, arguments), *map(spelling, options)]
        rows = [
            # The text of `--help`, with the default and the range.
            f"- `{name}`: {prose(' '.join((param.get_help_record(context) or ('', ''))[1].split()))}"
            for name, param in zip(names, [*arguments, *options], strict=True)
        ]
        if rows:
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def verbs(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands that can be run: `data fetch` and `models`, but not `data`."""
    nested = getattr(command, "commands", None)
    if nested is None:
        yield words, command
        return
    if nested and command.params and getattr(command, "invoke_without_command", False):
        yield words, command
    for name, child in nested.items():
        if not child.hidden:
            yield from verbs(f"{words} {name}", child)


def placeholder(argument: Any) -> str:
    """Return an argument as a usage line shows it."""
    name = argument.metavar or argument.name.removesuffix("_").upper()
    name = f"{name.removesuffix('...')}..." if argument.nargs == -1 else name
    return name if argument.required or name.startswith("[") else f"[{name}]"


def spelling(option: Any) -> str:
    """Return an option with all its names, and its choices or the name of its value."""
    names = ", ".join(sorted(option.opts, key=len, reverse=True))
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if option.is_flag:
        return names
    choices = "|".join(map(str, getattr(option.type, "choices", ())))
    # In the code, an underscore keeps `format_` from hiding Python's `format`.
    return f"{names} {option.metavar or choices or option.name.removesuffix('_').upper()}"


def prose(text: str) -> str:
    """Escape angle brackets outside of backticks, so that `<recipe>` is not read as HTML."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"[<>]", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)


def read_record(path: Path) -> dict[str, Any]:
    """Read one record and check it.

    Raises:
        ValueError: a field is missing, unknown or of a wrong type, or `name`, `n`, `mean` or `std`
            do not fit the file and its values.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path.name}: is not a JSON object")
    if set(record) != set(FIELDS):
        raise ValueError(
            f"{path.name}: wrong or missing fields {sorted(set(record) ^ set(FIELDS))}"
        )
    for field, kind in FIELDS.items():
        if not isinstance(record[field], kind):
            raise ValueError(f"{path.name}: `{field}` has the wrong type")
    values = record["values"]
    if not all(isinstance(value, (int, float)) for value in values):
        raise ValueError(f"{path.name}: `values` holds something that is not a number")
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    claims = (record["name"], record["n"])
    close = abs(record["mean"] - statistics.fmean(values or [0])) <= 1e-6 * (
        1 + abs(record["mean"])
    )
    if claims != (path.stem, len(values)) or not values or not close:
        raise ValueError(f"{path.name}: name, n or mean do not fit the file and its values")
    # `not <=`, unlike `>`, also refuses NaN.
    if not abs(record["std"] - spread) <= 1e-6 * (1 + spread):
        raise ValueError(f"{path.name}: `std` does not fit the values")
    return record


def measured_page(records: list[dict[str, Any]]) -> str:
    """Return docs/measured.md: all records, one section for each `table`."""
    parts = [MEASURED]
    names = dict.fromkeys(record["table"] for record in records)
    # `sorted` keeps the order of all others.
    for name in sorted(names, key=lambda name: (*FIRST, name).index(name)):
        chosen = [record for record in records if record["table"] == name]
        machines = "; ".join(dict.fromkeys(record["hardware"] for record in chosen))
        parts.append(f"## {name}\n\nOn {machines}.\n\n{table(chosen, '../records')}")
    return "\n\n".join(parts) + "\n"


def table(records: list[dict[str, Any]], folder: str) -> str:
    """Return a table of records in Markdown."""
    rows = [
        "| what | measure | value | beside it | date |",
        "| --- | --- | ---: | --- | --- |",
    ]
    for record in records:
        metric, _, beside = record["metric"].partition("; ")
        date = f"[{record['date'][:10]}]({folder}/{record['name']}.json)"
        if earlier(record):
            date += ", with an earlier reader"
        rows.append(f"| {record['what']} | {metric} | {amount(record)} | {beside} | {date} |")
    return "\n".join(rows)


READING = (
    "bulk",
    "memory",
    "mnist",
    "negatives",
    "reading",
    "reading_speed",
    "service",
    "start",
    "strings",
)
"""Benchmarks that read images."""

LINE_READER = "2026-11-27"
"""The day on which the reader was replaced."""


def earlier(record: dict[str, Any]) -> bool:
    """Return whether a record was measured with a reader that is no longer shipped."""
    reads = any(f"benchmarks/{name}.py" in record["command"] for name in READING)
    reads = reads or record["name"].endswith("-images")
    return (reads and record["date"] < LINE_READER) or any(
        CURRENT.get(name, digest) != digest for name, digest in record["data"].items()
    )


def recipe_table(records: dict[str, dict[str, Any]]) -> str:
    """Return the table of all recipes with their measured accuracy."""
    rows = ["| recipe | what it is | MNIST test accuracy |", "| --- | --- | --- |"]
    for name, recipe in RECIPES.items():
        rows.append(f"| `{name}` | {recipe.summary} | {accuracy(name, records)} |")
    return "\n".join(rows)


def accuracy(name: str, records: dict[str, dict[str, Any]]) -> str:
    """Return the measured accuracy of a recipe, with a link to its record; empty if there is none."""
    found = records.get(ELSEWHERE.get(name, f"recipe-{name}"))
    shown = f"[{amount(found)}](../records/{found['name']}.json)" if found else ""
    if found and name in ELSEWHERE:
        shown += " in the shipped reader"
    as_one = records.get(f"recipe-{name}-ensemble")
    if as_one:
        shown += f"; {len(as_one['extra']['fit_seconds'])} as one {amount(as_one)}"
    return shown


def script_table(records: dict[str, dict[str, Any]]) -> str:
    """Return the table of the recipes that repeat published Keras programs: what each one gives."""
    rows = [
        "| the layers of your script | optimizer, batch, loss | recipe | test accuracy | seconds to fit:"
        " digitry, Keras on TensorFlow |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ANCESTORS:
        recipe = RECIPES[name]
        layers = ", ".join(f"Dense {units}" for units in (*recipe.hidden, 10))
        optimizer = {"adam": "Adam", "rmsprop": "RMSprop"}[recipe.optimizer]
        loss = f"{'' if recipe.one_hot else 'sparse '}categorical"
        held = ", a fifth held out" if recipe.validation else ""
        times, timed = "", records.get(f"training-{name}")
        if timed:
            theirs = timed["extra"]["medians"]["tensorflow"]["fit_s"]
            times = f"[{plain(timed['mean'])}, {plain(theirs)}](../records/{timed['name']}.json)"
        rows.append(
            f"| {layers} | {optimizer}, {recipe.batch_size}, {loss}{held} | `{name}` "
            f"| {accuracy(name, records)} | {times} |"
        )
    return "\n".join(rows)


def comparison(records: dict[str, dict[str, Any]]) -> str:
    """Return README's table: images whose digits are read right by digitry and by others.

    Raises:
        ValueError: the others were given other images than digitry.
    """
    classic = records.get("baseline-0")
    rivals = [records[name] for name in RIVALS if name in records]
    heads = ["", "digitry"]
    if classic:
        heads.append(f"[resized to 28x28, divided by 255]({HOME}/records/baseline-0.json)")
    heads += [f"[{one['extra']['program']}]({HOME}/records/{one['name']}.json)" for one in rivals]
    rows = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for group, title in COMPARED.items():
        ours = records.get("reading-" + re.sub(r"\W+", "-", group))
        if ours is None:
            continue
        count, right = ours["extra"]["images"], ours["extra"]["digits_right"]
        others = []
        if classic:
            others.append(classic["extra"].get(group, [])[:2])
        for one in rivals:
            found = one["extra"]["groups"].get(group)
            others.append([found["images"], found["digits_right"]] if found else [])
        if any(other and other[0] != count for other in others):
            raise ValueError(
                f"{ours['name']}: the others were given other images; measure them again"
            )
        cells = [
            share(right, count),
            *(share(other[1], count) if other else "–" for other in others),
        ]
        cells[0] = f"[{cells[0]}]({HOME}/records/{ours['name']}.json)"
        rows.append(f"| {title}: {count} | {' | '.join(cells)} |")
    if any(one["name"] == "rival-tesseract" for one in rivals):
        rows += [
            "",
            "Tesseract is made for print, and was told to expect digits only. RapidOCR reads any text; "
            "it was run as it comes.",
        ]
    return "\n".join(rows)


def share(part: int, whole: int) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * part / whole:.1f}%"


def amount(record: dict[str, Any]) -> str:
    """Return a record's number as text: percentages with two decimals, others with three figures."""
    mean, std, unit = record["mean"], record["std"], record["unit"]
    if unit == "%":
        if not -1 <= mean <= 1:
            raise ValueError(f"{record['name']}: {mean} is not a share")
        text = f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if record["n"] > 1 else "")
    else:
        text = plain(mean) + (f" ± {plain(std)}" if record["n"] > 1 else "")
    space = "" if unit in ("%", "") else " "
    return f"{text}{space}{unit}" + (f" ({record['n']})" if record["n"] > 1 else "")


def plain(number: float) -> str:
    """Return a number with three figures and without an exponent."""
    if number == 0 or abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{float(f'{number:.3g}'):.10g}"


def pages() -> dict[Path, str]:
    """Return the content that every generated file should have.

    Raises:
        ValueError: a record is not valid, or a page lacks the marks of a generated part.
    """
    records = [read_record(path) for path in sorted((ROOT / "records").glob("*.json"))]
    named = {record["name"]: record for record in records}
    written = {
        "compared": comparison(named),
        "scripts": script_table(named),
        "recipes": recipe_table(named),
    }
    wanted = {
        ROOT / "docs" / "cli.md": cli_page(),
        ROOT / "docs" / "measured.md": measured_page(records),
        ROOT / "docs" / "tree.svg": tree.picture(
            (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        ),
    }
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for path in texts:
        if path in wanted:
            continue
        page = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        for place, content in written.items():
            if PLACES[place] == page:
                text = placed(text, place, content, page)
        marks = len(re.findall(r"<!-- [\w.-]+ -->", text)), text.count("<!-- / -->")
        if marks[0] != marks[1]:
            raise ValueError(f"{page}: has {marks[0]} `<!-- NAME -->` and {marks[1]} `<!-- / -->`")
        wanted[path] = MARKED.sub(lambda mark, page=page: inline(mark, named, page), text)
    if missing := sorted(
        set(PLACES.values()) - {path.relative_to(ROOT).as_posix() for path in wanted}
    ):
        raise ValueError(f"{missing[0]}: is missing")
    return wanted


MARKED = re.compile(r"(<!-- ([\w.-]+) -->)[^<]*(<!-- / -->)")
"""A number of a record in a text."""


def placed(text: str, place: str, content: str, page: str) -> str:
    """Return a text with generated content between its marks.

    Raises:
        ValueError: the text does not have each mark once, in order.
    """
    start, end = f"<!-- {place}:start -->", f"<!-- {place}:end -->"
    if not (text.count(start) == 1 == text.count(end) and text.index(start) < text.index(end)):
        raise ValueError(f"{page}: needs one {start} before one {end}")
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{content}\n{end}{after}"


def inline(mark: re.Match[str], named: dict[str, dict[str, Any]], page: str) -> str:
    """Return the marks with the record's number between them.

    Raises:
        ValueError: there is no such record.
    """
    if mark[2] not in named:
        raise ValueError(f"{page}: there is no record {mark[2]}")
    return f"{mark[1]}{amount(named[mark[2]])}{mark[3]}"


def main() -> None:
    """Write the files, or check that they are up to date."""
    try:
        wanted = pages()
    except ValueError as error:
        sys.exit(f"docs: {error}")
    for path, text in wanted.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            sys.exit(f"docs: {path.relative_to(ROOT)} is out of date; run `make docs`")
        write_text(path, text)


if __name__ == "__main__":
    main()
