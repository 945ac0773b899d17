"""Requests and answers of the API, as OpenAPI describes them."""

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from digitry.reading.template import MOST_TEXT

Share = Annotated[float, Field(ge=0, le=1)]
Value = Annotated[int, Field(ge=0, le=9)]
BoxList = Annotated[
    list[int], Field(min_length=4, max_length=4, description="x, y, w, h in pixels")
]
Label = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "not a digit"]


class DigitOut(BaseModel):
    """One digit that was found; `value` is null if it was refused."""

    value: Value | None
    confidence: Share
    box: BoxList
    line: int
    alternatives: list[tuple[Value, Share]]
    reason: str | None
    glyph: str | None = Field(
        None, description="With glyphs=true: the network's input, as the data URL of a PNG."
    )


class LineOut(BaseModel):
    """The words at one height of the page; its text joins them by a space."""

    text: str
    confidence: Share
    box: BoxList


class WordOut(LineOut):
    """Digits and marks that stand together; a refused digit is `?`."""

    line: int


class MarkOut(WordOut):
    """A mark in a number."""

    text: Literal[".", ",", "-", "/", ":"]


class FieldOut(BaseModel):
    """What stands in one field of a form."""

    name: str
    text: str
    confidence: Share
    rejected: bool = Field(description="Whether the text must not be used.")
    reason: str | None = Field(description="Why; `empty` also for a field that may be empty.")
    corners: list[tuple[int, int]] = Field(
        min_length=4,
        max_length=4,
        description="x, y in pixels: left upper, right upper, right lower, left lower.",
    )
    lines: list[int] = Field(description="Indices of its lines in the reading.")


class ReadingOut(BaseModel):
    """What was read from one image.

    The characters of the words, in order, are the digits and the marks.
    """

    source: str
    text: str = Field(description="The lines joined by a newline, words by a space.")
    confidence: Share
    rejected: bool
    reason: str | None
    width: int
    height: int
    inverted: bool
    turned: Literal[0, 90, 180, 270] = Field(
        description="By how many degrees, counter-clockwise, the image was turned to read it; width, "
        "height and all boxes are those of the turned image."
    )
    lines: list[LineOut]
    words: list[WordOut]
    digits: list[DigitOut]
    marks: list[MarkOut]
    model: str
    ms: float
    picture: str | None = Field(
        None, description="With picture=true: the upright page in grey, as the data URL of a JPEG."
    )
    template: str | None = Field(None, description="Of a form: the name of its template.")
    aligned: Share | None = Field(
        None,
        description="Of a form: the share of the blank form's print that was found at its place; null "
        "where the template has no reference picture.",
    )
    fields: list[FieldOut] | None = Field(None, description="Of a form: its fields, in order.")


class FailedOut(BaseModel):
    """An image that could not be read, while others could."""

    index: int
    source: str
    detail: str


class ReadingsOut(BaseModel):
    """The readings in the order of the images and their pages; `failed` only if some could not be read."""

    readings: list[ReadingOut]
    failed: list[FailedOut] | None = None


class ModelOut(BaseModel):
    """A model of this service."""

    name: str
    labels: list[str]
    glyph_version: int
    temperature: float
    sha256: str
    bytes: int
    created: str
    scores: dict[str, float]
    default: bool = Field(description="Whether it is used if a request names no model.")
    version: str | None = Field(
        description="`shipped`, or the number of one of the user's versions; null for a file."
    )
    superseded_by: str | None = Field(
        description="The version that became the default after this service was started."
    )


class ModelsOut(BaseModel):
    """The models of this service."""

    models: list[ModelOut]


class CorrectionOut(BaseModel):
    """A stored correction; its pictures have their own routes."""

    id: str
    created: str
    undone: str | None
    label: Label
    read_value: Value | None
    best_guess: Value
    confidence: Share
    reason: str | None
    model: str
    glyph_version: int
    author: str
    sha256: str


class LineCorrectionOut(BaseModel):
    """A stored correction of a line; its picture has its own route."""

    id: str
    created: str
    undone: str | None
    text: str
    read_text: str
    confidence: Share
    box: Annotated[list[int], Field(min_length=4, max_length=4)]
    model: str
    author: str
    sha256: str


class CorrectionsOut(BaseModel):
    """Corrections, newest first."""

    corrections: list[CorrectionOut | LineCorrectionOut]


class StatusOut(BaseModel):
    """The state of the service."""

    status: str


class ProblemOut(BaseModel):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    layout: Literal["auto", "single", "line", "page"] = Field(
        "auto", description="One digit, one line, a page of lines, or auto."
    )
    max_error: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Refuse digits until at most this share of the rest is wrong, e.g. 0.001.",
    )
    pattern: str | None = Field(
        None,
        max_length=200,
        description=r"What each line must look like, such as \d{5} or \d\d/\d\d/\d{4}.",
    )
    model: str | None = Field(
        None, max_length=200, description="Name of one of the models at /v1/models."
    )


class _Options(_Asked):
    glyphs: bool = Field(False, description="Return the network's input for each digit.")
    picture: bool = Field(
        False,
        description="Return the page in grey: for HEIC, PDF and TIFF, which browsers cannot show.",
    )


class ReadOptions(_Options):
    """The options of a reading, the same as on the command line."""

    template: str | None = Field(
        None, max_length=64, description="Name of one of the templates at /v1/templates."
    )


class TemplateIn(BaseModel):
    """A template that is sent with the images."""

    model_config = ConfigDict(extra="forbid")

    toml: str = Field(max_length=MOST_TEXT, description="The template, as TOML.")
    reference: str | None = Field(
        None, description="The picture of the blank form: base64, or a data URL of base64."
    )


class ReadIn(_Options):
    """Images in JSON, either `image` or `images`, and options."""

    image: str | None = Field(None, description="One image: base64, or a data URL of base64.")
    images: list[str] | None = Field(None, description="Several images, each as `image`.")
    template: Annotated[str, Field(max_length=64)] | TemplateIn | None = Field(
        None, description="Name of one of the templates at /v1/templates, or a template."
    )


class TemplateFieldOut(BaseModel):
    """A field of a template."""

    name: str
    box: tuple[Share, Share, Share, Share] = Field(
        description="Left, top, width, height, in shares of the form."
    )
    pattern: str | None
    layout: Literal["single", "line", "page", "auto"]
    empty: bool = Field(description="Whether it may be empty.")


class TemplateOut(BaseModel):
    """A template of this service."""

    name: str
    reference: bool = Field(description="Whether it has a picture of the blank form.")
    fields: list[TemplateFieldOut]


class TemplatesOut(BaseModel):
    """The templates of this service."""

    templates: list[TemplateOut]


class ListOptions(BaseModel):
    """Which corrections to list."""

    model_config = ConfigDict(extra="forbid")

    label: Label | None = None
    lines: bool = Field(False, description="List corrections of lines, not of digits.")
    undone: bool = False
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=1_000_000_000)


Id = Annotated[str, Path(pattern="^[0-9a-f]{24}$", description="The id of a correction.")]


class CorrectionIn(_Asked):
    """The fields of a correction, besides the image."""

    box: str = Field(
        max_length=60, pattern=r"^\d{1,6},\d{1,6},\d{1,6},\d{1,6}$", description="x,y,w,h in pixels"
    )
    label: Label | None = Field(None, description="Of a digit: the correct value.")
    text: str | None = Field(
        None,
        max_length=200,
        description="Of a line: all that is written in it, digits, spaces and the marks . , - / :",
    )
    author: str = Field("", max_length=200, description="Who made the correction; free text.")
    template: str | None = Field(None, max_length=64)
    page: int | None = Field(
        None, ge=1, le=1000, description="Of a document with several pages: the number of the page."
    )


class ExplainIn(BaseModel):
    """A glyph, and the digit to explain."""

    model_config = ConfigDict(extra="forbid")

    glyph: Annotated[
        list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=784, max_length=784)
    ]
    value: Value


class ExplainedOut(BaseModel):
    """28 rows of 28 weights in [0, 1]: how much the answer depends on each pixel and its surroundings."""

    weights: list[list[float]]
