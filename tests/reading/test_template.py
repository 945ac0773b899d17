"""Templates of forms: what is accepted, what is refused in one line, and the way to TOML and back."""

from pathlib import Path

import pytest

from digitry.errors import UsageError
from digitry.reading import template
from digitry.reading.template import Field, Template

GOOD = """
name = "slip"
[[fields]]
name = "account"
box = [0.1, 0.2, 0.5, 0.1]
pattern = '\\d{8}'
[[fields]]
name = "copies"
box = [0.1, 0.5, 0.1, 0.1]
layout = "single"
empty = true
"""


def field(**changes: object) -> str:
    """The TOML of one field; a change of None leaves a key away."""
    keys = {"name": '"a"', "box": "[0, 0, 1, 1]", **changes}
    return "[[fields]]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items() if v is not None)


def test_a_template_says_what_its_toml_says() -> None:
    account, copies = template.parse(GOOD).fields
    assert (account.name, account.box, account.pattern) == (
        "account",
        (0.1, 0.2, 0.5, 0.1),
        r"\d{8}",
    )
    assert (account.layout, account.empty) == ("line", False)
    assert (copies.pattern, copies.layout, copies.empty) == (None, "single", True)


def test_a_template_becomes_toml_and_json_and_comes_back() -> None:
    made = Template(
        (
            Field("Größe 1", (1 / 3, 0.25, 2 / 3, 0.5), r"\d{4}|'\d"),
            Field("b", (0, 0, 1, 1), layout="page", empty=True),
        ),
        "form",
        b"picture",
    )
    assert template.parse(made.to_toml("x.png"), b"picture") == made
    assert template.unpacked(made.packed()) == made


def test_the_reference_lies_beside_the_template(tmp_path: Path) -> None:
    (tmp_path / "slip.toml").write_text('reference = "blank.png"\n' + field())
    (tmp_path / "blank.png").write_bytes(b"bytes")
    found = template.load(tmp_path / "slip.toml")
    assert (found.name, found.reference) == ("slip", b"bytes")
    (tmp_path / "blank.png").unlink()
    with pytest.raises(UsageError, match=r"blank\.png: cannot be opened"):
        template.load(tmp_path / "slip.toml")


def test_a_text_names_no_file_that_would_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(b"secret")
    with pytest.raises(UsageError, match="which is not given"):
        template.parse(f'reference = "{path}"\n' + field())


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "has no fields"),
        ("fields = 3", "has no fields"),
        ("x", "is not TOML"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ('[[field]]\nname = "a"', "'field' is not known; write fields"),
        (field(boxes="[0, 0, 1, 1]"), "field 'a': the key 'boxes' is not known; write box"),
        (field(box=None), "field 'a': has no `box`"),
        (field(name=None), "field 1: has no `name`"),
        (field(box="[0, 0, 1]"), "its box is not four numbers"),
        (field(box="[0, 0, nan, 1]"), "its box is not four numbers"),
        (field(box="[0, 0, true, 1]"), "its box is not four numbers"),
        (field(box="[0, 0, 1, " + "9" * 400 + "]"), "its box is not four numbers"),
        (field(box="[10, 20, 300, 40]"), "its box is not in shares"),
        (field(box="[0.5, 0, 0.6, 1]"), "reaches outside the page"),
        (field(box="[-0.1, 0, 0.6, 1]"), "reaches outside the page"),
        (field(box="[0, 0, 0, 1]"), "its box is too small"),
        (field(name='"=1+1"'), "is not a name"),
        (field(name='"a,b"'), "is not a name"),
        (field(name='"a\\nb"'), "is not a name"),
        (field(name='"' + "a" * 65 + '"'), "is not a name"),
        (field(name='"Status"'), "has a column of this name"),
        (field() + "\n" + field(name='"A"'), "'A': this name is given twice"),
        (field(pattern="'\\d{'"), "invalid repetition"),
        (field(pattern="4"), "its pattern is not a text"),
        (field(pattern="'" + "5" * 201 + "'"), "its pattern is not a text of 1 to 200"),
        (field(layout='"row"'), "no layout is called 'row'"),
        (field(empty="1"), "`empty` is not true or false"),
        ("reference = 1\n" + field(), "`reference` is not a file name"),
        ("\n".join(field(name=f'"f{i}"') for i in range(201)), "has 201 fields"),
        ("# " + "x" * (template.MOST_TEXT + 1), "is larger than"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(toml: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        template.parse(toml)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_an_error_names_the_file_and_the_field(tmp_path: Path) -> None:
    path = tmp_path / "slip.toml"
    path.write_text(field(box="[2, 0, 1, 1]"))
    with pytest.raises(UsageError) as caught:
        template.load(path)
    assert str(caught.value).startswith(f"{path}: field 'a': its box is not in shares")


def test_templates_with_another_field_or_picture_have_another_fingerprint() -> None:
    one = Template((Field("a", (0, 0, 1, 1)),))
    others = [
        Template((Field("b", (0, 0, 1, 1)),)),
        Template((Field("a", (0, 0, 1, 1)),), "form", b"x"),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 3
