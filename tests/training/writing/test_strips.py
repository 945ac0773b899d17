import cv2
import numpy as np
import pytest

from digitry.reading.classes import OTHER
from digitry.reading.lines import HEIGHT, lifted, rows_of_writing
from digitry.training.writing import strips
from digitry.training.writing.real import Real, labels_of, rewritten, set_in, stroke_strip
from digitry.training.writing.strips import WIDTH_STEP, Composer, Mix, Sources, by_width


def test_one_seed_makes_the_same_strips(sources: Sources):
    first, second = (Composer(sources, [3, 1]).batches(40, 4000) for _ in range(2))
    assert [batch.labels for batch in first] == [batch.labels for batch in second]
    assert all((a.strips == b.strips).all() for a, b in zip(first, second, strict=True))
    other = Composer(sources, [3, 2]).batches(40, 4000)
    assert [batch.labels for batch in first] != [batch.labels for batch in other]


def test_batches_hold_strips_of_about_one_width(sources: Sources):
    batches = Composer(sources, 0).batches(120, 2000)
    assert sum(len(batch.labels) for batch in batches) == 120
    for batch in batches:
        count, _, height, width = batch.strips.shape
        assert batch.strips.dtype == np.uint8
        assert height == HEIGHT
        assert width % WIDTH_STEP == 0
        assert count == 1 or count * width <= 2000


def test_batches_are_of_widths_that_bfloat16_is_right_for(sources: Sources):
    # Two pools divide them by four; see WIDTH_STEP.
    assert WIDTH_STEP % 32 == 0
    for batch in Composer(sources, 1).batches(60, 3000):
        assert batch.strips.shape[3] // 4 % 8 == 0


def test_no_strip_is_lost_in_groups_by_width():
    made = [(np.zeros((HEIGHT, width), np.float32), (width,)) for width in (90, 20, 40, 700, 21)]
    groups = by_width(made, 200)
    assert sorted(labels[0] for group in groups for _, labels in group) == [20, 21, 40, 90, 700]


@pytest.mark.parametrize(
    ("mix", "count"), [(Mix(1, 0, 0), {1}), (Mix(0, 1, 0), {2}), (Mix(0, 0, 1), {0})]
)
def test_the_mix_says_what_strips_are_made(sources: Sources, mix: Mix, count: set[int]):
    composer = Composer(sources, 0, mix)
    assert {len(composer.strip()[1]) for _ in range(40)} == count


def test_a_strip_without_digits_is_empty(sources: Sources):
    (batch,) = Composer(sources, 0, Mix(0, 0, 1)).batches(3, 100_000)
    assert all(label == OTHER for line in batch.labels for label in line)


def test_labels_leave_spaces_out_and_join_other_writing():
    assert labels_of("(318) 555-01") == (OTHER, 3, 1, 8, OTHER, 5, 5, 5, 12, 0, 1)
    assert labels_of("$=7,50") == (OTHER, 7, 11, 5, 0)


def scan() -> np.ndarray:
    grey = np.full((64, 120), 200, np.uint8)
    grey[:, 60:] = 170
    cv2.putText(grey, "83", (20, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 60, 2, cv2.LINE_AA)
    grey[:, 100:103] = 40
    grey[52:54] = 120
    return grey


def test_the_ink_of_a_scan_has_lost_its_paper_and_kept_its_lines():
    ink = lifted(scan())
    assert ink[10:15, 5:15].max() < 40
    assert ink[10:15, 80:90].max() < 40
    assert ink[20:30, 101].min() > 150
    assert ink[53, 10:90].min() > 60


def test_the_rows_of_writing_are_the_digits_and_no_border():
    top, bottom = rows_of_writing(lifted(scan()))
    assert top == pytest.approx(23, abs=3)
    assert bottom == pytest.approx(46, abs=3)


def test_real_writing_is_set_in_at_the_height_asked_for():
    ink = np.zeros((64, 50), np.uint8)
    ink[10:50, 20:24] = 255
    for tall in (12.0, 20.0, 60.0):
        strip = set_in(Real(ink, (1,), 10, 50), tall)
        rows = np.flatnonzero((strip > 100).any(axis=1))
        assert len(rows) == pytest.approx(min(tall, HEIGHT), abs=2)
        assert (rows[0] + rows[-1]) / 2 == pytest.approx(HEIGHT / 2, abs=1)


def test_real_writing_is_never_shown_twice_alike_and_says_the_same():
    ink = np.zeros((64, 120), np.uint8)
    for x in (20, 50, 80):
        ink[16:48, x : x + 4] = 255
    real = Real(ink, (1, 1, 1), 16, 48)
    rng = np.random.default_rng(0)
    shown = [rewritten(real, rng) for _ in range(40)]
    assert {one.labels for one in shown} == {(1, 1, 1)}
    assert len({one.ink.tobytes() for one in shown}) == len(shown)
    for one in shown:
        # Three strokes still, of about their height, however they slant.
        count, _, stats, _ = cv2.connectedComponentsWithStats((one.ink > 90).astype(np.uint8))
        assert count == 4
        assert (stats[1:, cv2.CC_STAT_HEIGHT] > 20).all()


def test_composed_lines_are_rewritten_and_say_the_same(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
):
    made = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(strips, "SHARE_COMPOSED_REWRITTEN", share)
        # One text and one hand: what is drawn after it may differ.
        made[share] = [Composer(sources, seed, Mix(0, 0, 0)).strip() for seed in range(10)]
    for (plain, said), (written, again) in zip(made[0.0], made[1.0], strict=True):
        assert said == again
        assert plain.shape[0] == written.shape[0] == HEIGHT
        assert plain.tobytes() != written.tobytes()


def test_strokes_without_height_are_no_strip():
    line = np.array([[0, 0], [1, 0]], np.float32)
    assert stroke_strip([line], np.random.default_rng(0)) is None
