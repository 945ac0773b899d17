"""Writes what the documents say about the code from the code: docs/cli.md, and every number.

    python docs/generate.py            # write
    python docs/generate.py --check    # write nothing; fail with one line if something has changed

A number that we claim is a record, one file each in records/:

    name      that of the file, without `.json`
    table     the table that it stands in, e.g. "Reading"; tables and rows are sorted by `name`
    what      what was measured, in the words of a table's cell
    metric    e.g. "test accuracy"; after a semicolon what stands beside it, such as rivals' numbers
    unit      "%" (the values are then shares), "s", "MB", "x", ""
    command   the line that measures it again
    commit    of the code that was measured; `date`: ISO 8601
    hardware  in words
    versions  {"python": ..., "torch": ..., ...}
    data      {name: sha256} of what was read or trained on
    n         the number of runs; `values`: what each gave; `mean` and `std` (of a sample; 0 for one)
    extra     anything else, by name

Every field is needed; `extra` may be {}. What the records say of themselves is checked.

docs/measured.md holds all of them, README the recipes and HEADLINES. A single number within README's
prose stands between `<!-- NAME -->` and `<!-- / -->`, with NAME that of the record.
"""

import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from digitry.cli.main import app
from digitry.files import write_text
from digitry.model.load import SHIPPED, load_model
from digitry.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PLACES = ("recipes", "headlines")
"""Of README: what is written between `<!-- recipes:start -->` and `<!-- recipes:end -->`, and so on."""

HEADLINES = (
    "baseline-0",
    "baseline-1",
    "baseline-2",
    "reading-mnist-text",
    "reading-photo-several-digits",
    "reading-scans-one-digit",
    "reading-strings-ink",
    "refused-auto",
    "robustness-dense-128-128",
    "robustness-reader",
    "speed-read-28x28",
    "speed-read-640x480",
    "start-read",
    "conv-99.0-seconds",
    "training-all-five",
    "service-capacity-28x28",
    "service-capacity-640x480",
    "bulk-memory",
)
"""The records that README shows; what is missing among them is left out."""

ELSEWHERE = {"reader": "reading-mnist-text"}
"""Recipes whose accuracy is that of reading whole images, in another record than recipe-NAME."""

CURRENT = {f"model {name}": load_model(name).sha256 for name in SHIPPED}
"""How records name what is shipped now."""

FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "table": str, "what": str, "metric": str, "unit": str, "command": str,
    "commit": str, "date": str, "hardware": str, "versions": dict, "data": dict, "n": int,
    "mean": (int, float), "std": (int, float), "values": list, "extra": dict,
}  # fmt: skip
INTRODUCTION = """\
# The command line

Written by `make docs` from the program itself. `digitry VERB --help` says the same.

Results go to standard output; progress and complaints go to standard error. Exit codes:
0 done, 1 some inputs failed or whoever reads the output has gone (a broken pipe), 2 usage, 3 bad data
or model, 4 nothing to do it with (a missing extra, no network), 130 interrupted by Ctrl-C.
"""

MEASURED = """\
# Measured

Written by `make docs` from [`records/`](../records/), where the command, the commit, the versions and
all single values of each stand. Of several runs the mean is shown, the spread is one standard
deviation, and the number of runs stands in brackets."""


def cli_page() -> str:
    """Give docs/cli.md: every verb with its arguments and options, in the order of `--help`."""
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
            # The words are the program's own, with the default and the range, as `--help` has them.
            f"- `{name}`: {prose(' '.join((param.get_help_record(context) or ('', ''))[1].split()))}"
            for name, param in zip(names, [*arguments, *options], strict=True)
        ]
        if rows:
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def verbs(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Walk to the commands that do something: `data` is none, `data fetch` is one, `models` is one, too."""
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
    """Show an argument as in a usage line."""
    name = argument.metavar or argument.name.removesuffix("_").upper()
    name = f"{name.removesuffix('...')}..." if argument.nargs == -1 else name
    return name if argument.required or name.startswith("[") else f"[{name}]"


def spelling(option: Any) -> str:
    """Show an option with its other names, and what its value may be or is called."""
    names = ", ".join(sorted(option.opts, key=len, reverse=True))
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if option.is_flag:
        return names
    choices = "|".join(map(str, getattr(option.type, "choices", ())))
    # The underscore keeps a name in the code from hiding one of Python's own: `format_`.
    return f"{names} {option.metavar or choices or option.name.removesuffix('_').upper()}"


def prose(text: str) -> str:
    """Keep `<recipe>` from being taken for HTML; what stands in backticks is safe already."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"[<>]", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)


def read_record(path: Path) -> dict[str, Any]:
    """Read one record, and check what it says of itself.

    Raises:
        ValueError: a field is missing, unknown or of a wrong type, or the summary is not that of
            the values.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path.name}: is no JSON object")
    if set(record) != set(FIELDS):
        raise ValueError(
            f"{path.name}: wrong or missing fields {sorted(set(record) ^ set(FIELDS))}"
        )
    for field, kind in FIELDS.items():
        if not isinstance(record[field], kind):
            raise ValueError(f"{path.name}: `{field}` is of a wrong type")
    values = record["values"]
    if not all(isinstance(value, (int, float)) for value in values):
        raise ValueError(f"{path.name}: `values` holds something that is no number")
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    claims = (record["name"], record["n"])
    close = abs(record["mean"] - statistics.fmean(values or [0])) <= 1e-6 * (
        1 + abs(record["mean"])
    )
    if claims != (path.stem, len(values)) or not values or not close:
        raise ValueError(f"{path.name}: name, n or mean are not those of the file and its values")
    # `not <=` and not `>`: NaN is refused too.
    if not abs(record["std"] - spread) <= 1e-6 * (1 + spread):
        raise ValueError(f"{path.name}: `std` is not that of the values")
    return record


def measured_page(records: list[dict[str, Any]]) -> str:
    """Give docs/measured.md: all records, a table for each `table`."""
    parts = [MEASURED]
    for name in dict.fromkeys(record["table"] for record in records):
        chosen = [record for record in records if record["table"] == name]
        machines = "; ".join(dict.fromkeys(record["hardware"] for record in chosen))
        parts.append(f"## {name}\n\nOn {machines}.\n\n{table(chosen, '../records')}")
    return "\n\n".join(parts) + "\n"


def table(records: list[dict[str, Any]], folder: str, *, grouped: bool = False) -> str:
    """Give the rows of a table with their heading; where grouped, each `table` begins with its name."""
    rows = [
        "| what | measure | value | beside it | date |",
        "| --- | --- | ---: | --- | --- |",
    ]
    for number, record in enumerate(records):
        if grouped and (number == 0 or records[number - 1]["table"] != record["table"]):
            rows.append(f"| **{record['table']}** | | | | |")
        metric, _, beside = record["metric"].partition("; ")
        date = f"[{record['date'][:10]}]({folder}/{record['name']}.json)"
        if earlier(record):
            date += ", with an earlier reader"
        rows.append(f"| {record['what']} | {metric} | {amount(record)} | {beside} | {date} |")
    return "\n".join(rows)


def earlier(record: dict[str, Any]) -> bool:
    """Tell whether a record is of a shipped model that is shipped no more."""
    return any(CURRENT.get(name, digest) != digest for name, digest in record["data"].items())


def recipe_table(records: dict[str, dict[str, Any]]) -> str:
    """Give README's table of recipes, each with its measured accuracy."""
    rows = ["| recipe | what it is | MNIST test accuracy |", "| --- | --- | --- |"]
    for name, recipe in RECIPES.items():
        found = records.get(ELSEWHERE.get(name, f"recipe-{name}"))
        shown = f"[{amount(found)}](records/{found['name']}.json)" if found else ""
        if found and name in ELSEWHERE:
            shown += " of PNG files"
        as_one = records.get(f"recipe-{name}-ensemble")
        if as_one:
            shown += f"; {len(as_one['extra']['fit_seconds'])} as one {amount(as_one)}"
        rows.append(f"| `{name}` | {recipe.summary} | {shown} |")
    return "\n".join(rows)


def amount(record: dict[str, Any]) -> str:
    """Show a record's number: two decimals of a percentage, three figures of anything else."""
    mean, std, unit = record["mean"], record["std"], record["unit"]
    if unit == "%":
        if not -1 <= mean <= 1:
            raise ValueError(f"{record['name']}: {mean} is no share")
        text = f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if record["n"] > 1 else "")
    else:
        text = plain(mean) + (f" ± {plain(std)}" if record["n"] > 1 else "")
    space = "" if unit in ("%", "") else " "
    return f"{text}{space}{unit}" + (f" ({record['n']})" if record["n"] > 1 else "")


def plain(number: float) -> str:
    """Give three figures, without an exponent."""
    if number == 0 or abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{float(f'{number:.3g}'):.10g}"


def pages() -> dict[Path, str]:
    """Give what every generated file ought to hold.

    Raises:
        ValueError: a record is wrong, or README.md has no place for what is written there.
    """
    records = [read_record(path) for path in sorted((ROOT / "records").glob("*.json"))]
    named = {record["name"]: record for record in records}
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    headlines = table([named[name] for name in HEADLINES if name in named], "records", grouped=True)
    for place, content in zip(PLACES, (recipe_table(named), headlines), strict=True):
        start, end = f"<!-- {place}:start -->", f"<!-- {place}:end -->"
        if not (text.count(start) == 1 == text.count(end) and text.index(start) < text.index(end)):
            raise ValueError(f"README.md: has no single {start} before a single {end}")
        before, after = text.split(start)[0], text.split(end)[1]
        text = f"{before}{start}\n{content}\n{end}{after}"
    marks = len(re.findall(r"<!-- [\w.-]+ -->", text)), text.count("<!-- / -->")
    if marks[0] != marks[1]:
        raise ValueError(f"README.md: has {marks[0]} `<!-- NAME -->` and {marks[1]} `<!-- / -->`")
    return {
        ROOT / "docs" / "cli.md": cli_page(),
        ROOT / "docs" / "measured.md": measured_page(records),
        readme: re.sub(r"(<!-- ([\w.-]+) -->)[^<]*(<!-- / -->)", lambda m: inline(m, named), text),
    }


def inline(mark: re.Match[str], named: dict[str, dict[str, Any]]) -> str:
    """Put a record's number between its marks.

    Raises:
        ValueError: there is no such record.
    """
    if mark[2] not in named:
        raise ValueError(f"README.md: {mark[2]} is no record")
    return f"{mark[1]}{amount(named[mark[2]])}{mark[3]}"


def main() -> None:
    """Write the pages, or check that they need no writing."""
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
