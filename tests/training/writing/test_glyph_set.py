"""The data set of glyphs: composed once, kept in parts, the same from the cache."""

from pathlib import Path

import numpy as np
import pytest

from digitry.errors import DataError, UsageError
from digitry.training.datasets import is_named, load_dataset
from digitry.training.writing import glyph_set
from digitry.training.writing.strips import Sources


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(glyph_set, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(glyph_set, "POOL", 20)
    monkeypatch.setattr(glyph_set.processors, "available", lambda: 1)
    return tmp_path


def never() -> Sources:
    raise AssertionError("composed again")


def test_what_was_composed_is_kept_and_goes_on_where_it_was_stopped(
    cache: Path, sources: Sources
) -> None:
    whole = glyph_set.compose(lambda: sources, 50, "few")
    assert whole.images.shape == (50, 28, 28)
    parts = sorted(cache.glob("*/*.npz"))
    assert len(parts) == 3
    again = glyph_set.compose(never, 50, "few")
    np.testing.assert_array_equal(again.images, whole.images)
    # Stopped in the second part: what was written of it is no part.
    parts[2].unlink()
    parts[1].write_bytes(b"half")
    resumed = glyph_set.compose(lambda: sources, 50, "few")
    np.testing.assert_array_equal(resumed.images, whole.images)
    np.testing.assert_array_equal(resumed.labels, whole.labels)


def test_a_name_says_how_many_glyphs() -> None:
    assert glyph_set.count_of("glyphs") == glyph_set.COUNT
    assert glyph_set.count_of("glyphs-60000") == 60_000
    with pytest.raises(UsageError, match="too few"):
        glyph_set.count_of("glyphs-3")
    assert is_named("glyphs") and is_named("glyphs-5000")
    assert not is_named("glyphs-new") and not is_named("pages")


def test_the_pages_of_an_earlier_version_are_named_as_such() -> None:
    with pytest.raises(DataError, match=r"pages: were drawn by an earlier version.*train glyph"):
        load_dataset("pages")
