"""The store of corrections: the same promises on SQLite and on PostgreSQL."""

import io
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

from digitry.corrections import transfer
from digitry.corrections.correction import Correction
from digitry.corrections.database import StoreError
from digitry.corrections.store import Corrections
from digitry.errors import DataError, DigitryError, UsageError
from digitry.places import corrections_file
from digitry.training import datasets

from ..processes import forked
from ..waiting import PATIENCE_S, until

BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
    Path(found) for found in [shutil.which("initdb")] if found
]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL server in a temporary folder, and return its URL."""
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    if not BIN:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="digitry-pg-"))
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:
        # The server refuses to run as root.
        owner = pwd.getpwnam("postgres" if _has("postgres") else "nobody")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "cwd": folder}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [BIN[-1], "-D", data, "-U", "digitry", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, capture_output=True, **as_user,
    )  # fmt: skip
    server = subprocess.Popen(
        [BIN[-1].with_name("postgres"), "-D", data, "-p", str(port), "-k", folder,
         "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user,
    )  # fmt: skip
    url = f"postgresql+psycopg://digitry@127.0.0.1:{port}/postgres"
    until(lambda: _opens(url))
    yield url
    server.send_signal(signal.SIGINT)
    server.wait(PATIENCE_S)
    shutil.rmtree(folder, ignore_errors=True)


def _opens(url: str) -> bool:
    try:
        Corrections(url).close()
    except StoreError:
        return False
    return True


def _has(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'corrections.db'}"
    url = str(request.getfixturevalue("postgresql"))
    store = Corrections(url)
    store.delete([row.id for row in store.list(undone=True, limit=100_000)])
    store.close()
    return url


@pytest.fixture
def store(url: str) -> Iterator[Corrections]:
    store = Corrections(url)
    yield store
    store.close()


def picture(seed: int, *, side: int = 28, compress: int = 6) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=compress)
    return stream.getvalue()


def correction(seed: int, label: str = "7", **changes: Any) -> Correction:
    values: dict[str, Any] = {
        "label": label, "glyph": picture(seed), "crop": picture(seed, side=40), "read_value": 1,
        "best_guess": 1, "confidence": 0.62, "reason": None, "model": "reader", "author": "Ada",
    }  # fmt: skip
    return Correction(**{**values, **changes})


# --- storing -------------------------------------------------------------------------------------------


def test_a_correction_round_trips(store: Corrections, url: str) -> None:
    given = correction(1, read_value=None, reason="ambiguous 1/7", author="Ada Łovelace")
    kept, new = store.add(given)
    assert new
    again = Corrections(url)
    (found,) = again.list()
    again.close()
    assert found == kept == store.get(kept.id)
    for field in ("label", "glyph", "crop", "read_value", "confidence", "reason", "author"):
        assert getattr(found, field) == getattr(given, field)
    assert found.created.endswith("Z") and found.undone is None


def test_the_same_correction_is_stored_once_for_any_png_encoding(store: Corrections) -> None:
    first, _ = store.add(correction(1))
    second, new = store.add(correction(1, glyph=picture(1, compress=0)))
    assert not new and second.id == first.id
    assert store.stats().count == 1


def test_a_new_label_for_the_same_glyph_replaces_the_old_one(store: Corrections) -> None:
    first, _ = store.add(correction(1, "7"))
    second, new = store.add(correction(1, "4"))
    assert new
    assert [row.label for row in store.list()] == ["4"]
    assert {row.id for row in store.list(undone=True)} == {first.id, second.id}
    assert store.get(first.id).undone  # type: ignore[union-attr]


def test_an_undone_correction_can_be_made_again(store: Corrections) -> None:
    kept, _ = store.add(correction(1))
    undone = store.undo(kept.id)
    assert undone is not None and undone.undone
    assert store.undo(kept.id) == undone
    assert store.list() == [] and list(store.each()) == []
    assert store.undo("0" * 24) is None
    again, new = store.add(correction(1))
    assert new and again.id != kept.id


def test_deleting_leaves_nothing(store: Corrections) -> None:
    kept, _ = store.add(correction(1))
    assert store.delete([kept.id, "0" * 24]) == 1
    assert store.get(kept.id) is None


def test_lists_are_limited_sorted_and_filtered(store: Corrections) -> None:
    for seed in range(10):
        store.add(correction(seed, str(seed % 2)))
    everything = store.list()
    assert [row.created for row in everything] == sorted(row.created for row in everything)[::-1]
    assert store.list(limit=3, offset=2) == everything[2:5]
    assert {row.label for row in store.list(label="1")} == {"1"}
    assert [row.id for row in store.each()] == [row.id for row in everything][::-1]


def test_stats_count_labels_and_confusions(store: Corrections) -> None:
    for seed, label in enumerate(["7", "7", "1", "not a digit"]):
        store.add(correction(seed, label))
    store.undo(store.add(correction(9))[0].id)
    stats = store.stats()
    assert (stats.count, stats.undone, stats.agreeing) == (4, 1, 1)
    assert stats.labels == {"1": 1, "7": 2, "not a digit": 1}
    assert stats.confusions == ((1, "7", 2), (1, "not a digit", 1))


def test_eight_writers_at_once_lose_nothing(store: Corrections, url: str) -> None:
    def write(writer: int) -> None:
        own = Corrections(url)
        for n in range(12):
            # All writers share half of the glyphs, so that they conflict.
            own.add(correction(n if n % 2 else 100 * writer + n, str(writer)))
        own.close()

    with ThreadPoolExecutor(8) as writers:
        for done in [writers.submit(write, writer) for writer in range(1, 9)]:
            done.result()
    rows = store.list(limit=1000)
    assert len(rows) == 8 * 6 + 6
    assert len({row.sha256 for row in rows}) == len(rows)
    store.check()


def _write_until_killed(url: str, seed: int, confirmed: Any) -> None:
    store = Corrections(url)
    for n in range(100_000):
        kept, _ = store.add(correction(1_000_000 * seed + n))
        confirmed.send(kept.id)


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_no_confirmed_correction_is_lost_when_writers_are_killed(
    kills: int, store: Corrections, url: str
) -> None:
    context = forked()
    rng = random.Random(3)
    confirmed: set[str] = set()
    at_once = 3 if kills < 10 else 8
    for start in range(0, kills, at_once):
        running = []
        for seed in range(start, start + at_once):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_write_until_killed, args=(url, seed + 1, sender))
            process.start()
            sender.close()
            running.append((process, receiver))
        for _, receiver in running:
            assert receiver.poll(PATIENCE_S)
        time.sleep(rng.random() * 0.3)
        for process, receiver in running:
            process.kill()
            process.join()
            try:
                while True:
                    confirmed.add(receiver.recv())
            except EOFError:
                receiver.close()
        store.check()
    assert len(confirmed) > kills
    assert confirmed <= {row.id for row in store.list(limit=1_000_000)}


# --- refusing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["", "10", "seven", "NOT A DIGIT"])
def test_other_labels_are_refused(label: str) -> None:
    with pytest.raises(UsageError):
        correction(1, label)


@pytest.mark.parametrize(
    "url", ["mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "://", "postgresql+x://a/b"]
)
def test_unsupported_databases_are_refused(url: str) -> None:
    with pytest.raises(DigitryError) as error:
        Corrections(url)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but something dear to me " * 30)
    before = path.read_bytes()
    with pytest.raises(StoreError):
        Corrections(str(path))
    assert path.read_bytes() == before


def test_errors_do_not_show_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError) as error:
        Corrections("postgresql://digitry:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(error.value)


def test_the_default_store_is_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert corrections_file() == tmp_path / "digitry" / "corrections.db"
    Corrections().close()
    kept = corrections_file()
    assert kept is not None and kept.exists()


# --- export and import ---------------------------------------------------------------------------------


def test_an_export_is_a_data_set_and_round_trips(store: Corrections, tmp_path: Path) -> None:
    for seed in range(24):
        store.add(correction(seed, str(seed % 10)))
    store.add(correction(50, "not a digit"))
    folder = tmp_path / "out"
    assert transfer.export(store, folder).count == 25
    dataset = datasets.load_dataset(str(folder))
    assert len(dataset.train) + len(dataset.test) == 24

    other = Corrections(str(tmp_path / "other.db"))
    assert transfer.load(other, folder) == transfer.Moved(25, 0)
    assert transfer.load(other, folder / "corrections.jsonl") == transfer.Moved(0, 25)
    assert {(row.sha256, row.label) for row in other.each()} == {
        (row.sha256, row.label) for row in store.each()
    }
    other.close()
    with pytest.raises(DigitryError, match="not an empty folder"):
        transfer.export(store, folder)


def test_a_broken_row_is_reported_and_nothing_is_added(store: Corrections, tmp_path: Path) -> None:
    store.add(correction(1))
    transfer.export(store, tmp_path / "out")
    path = tmp_path / "out" / "corrections.jsonl"
    path.write_text(path.read_text() + '{"label": "7"}\n')
    other = Corrections(str(tmp_path / "other.db"))
    with pytest.raises(DataError, match="line 2"):
        transfer.load(other, path)
    assert other.stats().count == 0
    other.close()
