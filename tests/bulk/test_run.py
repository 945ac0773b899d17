"""The same input gives the same rows, for any number of workers and after any interruption."""

import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from digitry.bulk import inputs
from digitry.bulk.job import BulkJob, BulkReport
from digitry.bulk.output import Output
from digitry.bulk.run import run
from digitry.cli.main import app
from digitry.errors import UnavailableError, UsageError
from digitry.reading.reader import Reader
from digitry.reading.template import Field, Template
from digitry.workers.pool import WorkerPool

from .. import documents
from ..waiting import PATIENCE_S, until

BAD = 5


@pytest.fixture(scope="module")
def images(digits: list[bytes]) -> list[tuple[str, bytes]]:
    """Forty images; number 5 is truncated."""
    return [
        (f"d/{index:02d}.png", content[:60] if index == BAD else content)
        for index, content in enumerate(digits)
    ]


@pytest.fixture(scope="module")
def expected(images: list[tuple[str, bytes]], model: Path) -> list[dict[str, Any]]:
    """Of each image the reading as JSON; none of number 5."""
    reader = Reader(model)
    readings = [
        {} if index == BAD else reader.read(content).to_dict()
        for index, (_, content) in enumerate(images)
    ]
    found: list[dict[str, Any]] = json.loads(json.dumps(readings))
    return found


class Kept(WorkerPool):
    """Workers that the next run uses, too."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, Kept]]:
    found: dict[str, Kept] = {}
    yield found
    for pool in found.values():
        pool.end()


@pytest.fixture
def kept_workers(pools: dict[str, Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with the same settings share their workers, whose start takes longer than such a run."""

    def lent(*given: Any, **options: Any) -> Kept:
        key = repr((given, options))
        if key not in pools:
            pools[key] = Kept(*given, **options)
        return pools[key]

    monkeypatch.setattr("digitry.bulk.on_machine.WorkerPool", lent)


def as_folder(path: Path, images: list[tuple[str, bytes]]) -> str:
    for name, content in images:
        (path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "in" / name).write_bytes(content)
    (path / "in" / "read.me").write_text("no image")
    return str(path / "in")


def as_glob(path: Path, images: list[tuple[str, bytes]]) -> str:
    return as_folder(path, images) + "/d/*.png"


def as_list(path: Path, images: list[tuple[str, bytes]]) -> str:
    folder = as_folder(path, images)
    (path / "list.txt").write_text("".join(f"{folder}/{name}\n" for name, _ in images))
    return str(path / "list.txt")


def as_tar(path: Path, images: list[tuple[str, bytes]], mode: str = "w", end: str = "") -> str:
    with tarfile.open(path / f"in.tar{end}", mode) as made:
        for name, content in images:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            made.addfile(header, io.BytesIO(content))
    return str(path / f"in.tar{end}")


def as_tar_gz(path: Path, images: list[tuple[str, bytes]]) -> str:
    return as_tar(path, images, "w:gz", ".gz")


def as_zip(path: Path, images: list[tuple[str, bytes]]) -> str:
    with zipfile.ZipFile(path / "in.zip", "w") as made:
        for name, content in images:
            made.writestr(name, content)
    return str(path / "in.zip")


def as_table(path: Path, images: list[tuple[str, bytes]]) -> str:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"label": range(len(images)), "image": [content for _, content in images]})
    pq.write_table(table, path / "in.parquet", row_group_size=17)
    return str(path / "in.parquet")


def as_hugging_face_table(path: Path, images: list[tuple[str, bytes]]) -> str:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"image": [{"bytes": content, "path": name} for name, content in images]})
    pq.write_table(table, path / "in.parquet")
    return str(path / "in.parquet")


FORMS: list[Callable[[Path, list[tuple[str, bytes]]], str]] = [
    as_folder, as_glob, as_list, as_tar, as_tar_gz, as_zip, as_table, as_hugging_face_table
]  # fmt: skip


def job(path: Path, given: str, model: Path, **changes: object) -> BulkJob:
    settings: dict[str, object] = {
        "inputs": [given],
        "out": path / "out",
        "format": "jsonl",
        "model": str(model),
        "workers": 1,
        "shard_rows": 8,
        # A busy machine is not what these tests are about.
        "wall_s": PATIENCE_S,
        **changes,
    }
    return BulkJob(**settings)  # type: ignore[arg-type]


def rows(out: Path) -> list[dict[str, object]]:
    parts = sorted((out / "rows").iterdir())
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def failures(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]


def files(out: Path) -> dict[str, bytes]:
    """Return everything that must be equal; the summary also has times."""
    found = {path.name: path.read_bytes() for path in (out / "rows").iterdir()}
    found["failed"] = (out / "failed.jsonl").read_bytes()
    found["sha256"] = json.loads((out / "summary.json").read_text())["rows_sha256"].encode()
    return found


@pytest.mark.usefixtures("kept_workers")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_kind_of_input_gives_the_readings_of_its_images(
    form: Callable[[Path, list[tuple[str, bytes]]], str],
    tmp_path: Path,
    images: list[tuple[str, bytes]],
    expected: list[dict[str, Any]],
    model: Path,
) -> None:
    report = run(job(tmp_path, form(tmp_path, images), model))
    assert (report.images, report.failed, report.failed_by_reason) == (40, 1, {"is damaged": 1})
    found = rows(tmp_path / "out")
    for index, (reading, row) in enumerate(zip(expected, found, strict=True)):
        assert (row["status"] == "failed") == (index == BAD)
        for key in reading.keys() - {"source", "ms"}:
            assert row[key] == reading[key], key
    failed = failures(tmp_path / "out")
    assert [row["source"] for row in failed] == [found[BAD]["source"]]
    assert len({row["source"] for row in found}) == 40


@pytest.mark.usefixtures("kept_workers")
def test_the_offset_finds_the_member_again(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_tar(tmp_path, images)
    run(job(tmp_path, given, model))
    with tarfile.open(given) as archive:
        expected = {f"{given}::{member.name}": member.offset for member in archive}
    assert {row["source"]: row["offset"] for row in rows(tmp_path / "out")} == expected


@pytest.mark.usefixtures("kept_workers")
def test_parquet_and_json_lines_have_the_same_rows(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.dataset

    given = as_tar(tmp_path, images)
    run(job(tmp_path, given, model))
    run(job(tmp_path, given, model, out=tmp_path / "table", format="parquet"))
    table = pyarrow.dataset.dataset(tmp_path / "table" / "rows").to_table()
    assert table.to_pylist() == rows(tmp_path / "out")


def test_workers_do_not_change_the_rows(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_zip(tmp_path, images)
    run(job(tmp_path, given, model))
    run(job(tmp_path, given, model, out=tmp_path / "three", workers=3))
    assert files(tmp_path / "out") == files(tmp_path / "three")


def test_workers_killed_while_they_start_do_not_change_the_rows(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = as_zip(tmp_path, images)
    run(job(tmp_path, given, model))
    started: list[WorkerPool] = []

    class Watched(WorkerPool):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            # Three times before anything is read: first ready workers, then starting ones.
            for _ in range(3):
                for pid in self.pids():
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.15)
            started.append(self)

    monkeypatch.setattr("digitry.bulk.on_machine.WorkerPool", Watched)
    run(job(tmp_path, given, model, out=tmp_path / "killed", workers=2))
    assert files(tmp_path / "out") == files(tmp_path / "killed")
    assert sum(started[0].health().losses.values()) >= 4


def test_a_run_without_workers_ends_with_an_error(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: object) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("digitry.workers.supervisor._process", none)
    monkeypatch.setattr("digitry.workers.supervisor.GIVE_UP", 3)
    with pytest.raises(UnavailableError, match="could not be started"):
        run(job(tmp_path, as_zip(tmp_path, images), model, workers=2))


@pytest.mark.usefixtures("kept_workers")
def test_a_new_run_does_not_overwrite_another(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_zip(tmp_path, images)
    run(job(tmp_path, given, model))
    with pytest.raises(UsageError, match="--resume"):
        run(job(tmp_path, given, model))
    with pytest.raises(UsageError, match="different: layout"):
        run(job(tmp_path, given, model, resume=True, layout="single"))
    with pytest.raises(UsageError, match="is not empty"):
        run(job(tmp_path, given, model, out=tmp_path))


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first, second = (Output(tmp_path / "out", "jsonl", {"model": "m"}) for _ in range(2))
    with first.opened(resume=False), ThreadPoolExecutor(1) as pool:

        def begin() -> None:
            with second.opened(resume=True):
                pass

        with pytest.raises(UsageError, match="another run is writing here"):
            pool.submit(begin).result()
    with second.opened(resume=True):
        pass


@pytest.mark.usefixtures("kept_workers")
def test_resuming_reads_only_what_is_missing(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_tar_gz(tmp_path, images)
    run(job(tmp_path, given, model))
    before = files(tmp_path / "out")
    (tmp_path / "out" / "_run" / "000002.json").unlink()
    (tmp_path / "out" / "rows" / "part-000003.jsonl").write_text("half")
    (tmp_path / "out" / "rows" / ".part-000004-0123456789ab.jsonl").write_text("half")
    report = run(job(tmp_path, given, model, resume=True))
    assert report.images_now == 16
    assert report.images == 40
    assert files(tmp_path / "out") == before


SCRIPT = """
import sys
from digitry.bulk.run import BulkJob, run
given, out, model = sys.argv[1:]
job = BulkJob(inputs=[given], out=out, model=model, format="jsonl", workers=2, shard_rows=4, resume=True)
run(job, progress=lambda progress: print(progress.images, flush=True))
"""


def kill_often(given: str, out: Path, model: Path, kills: int, seed: int) -> None:
    """Start and kill the run at random moments, then let it finish."""
    chance = random.Random(seed)
    command = [sys.executable, "-c", SCRIPT, given, str(out), str(model)]
    for _ in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            # Wait for two shards, so that every run makes progress, then a random time.
            for _ in range(2):
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
    done = len(list((out / "_run").glob("0*.json")))
    end = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    again = int((end.stdout.split() or ["0"])[-1])
    # Finished shards are kept: each of two workers repeats at most one shard.
    assert again <= 40 * 3 - 4 * done


def test_a_killed_and_resumed_run_gives_the_same_files(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_tar(tmp_path, images * 3)
    run(job(tmp_path, given, model, shard_rows=4))
    kill_often(given, tmp_path / "killed", model, kills=4, seed=1)
    assert files(tmp_path / "killed") == files(tmp_path / "out")


@pytest.mark.usefixtures("kept_workers")
def test_a_broken_archive_among_many_is_reported(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "many"
    folder.mkdir()
    shutil.copy(as_zip(tmp_path, images), folder / "a.zip")
    (folder / "b.zip").write_bytes((folder / "a.zip").read_bytes()[:-40])
    (folder / "c.tar").write_bytes(Path(as_tar(tmp_path, images)).read_bytes()[:9000])
    (folder / "d.parquet").write_bytes(b"PAR1 no")
    (folder / "e.png").mkdir()
    os.mkfifo(folder / "f.png")
    report = run(job(tmp_path, str(folder), model))
    failed = failures(tmp_path / "out")
    names = [Path(str(row["source"])).name for row in failed if "::" not in str(row["source"])]
    assert names == ["b.zip", "c.tar", "d.parquet"]
    assert report.images > 40


def test_a_missing_input_is_reported_before_reading(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        run(job(tmp_path, str(tmp_path / "none"), model))
    with pytest.raises(UsageError, match="no file matches"):
        run(job(tmp_path, str(tmp_path / "*.png"), model))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no image"):
        run(job(tmp_path, str(tmp_path / "empty"), model))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError):
        BulkJob(inputs=[], out=tmp_path)
    with pytest.raises(UsageError):
        BulkJob(inputs=["a"], out=tmp_path, workers=0)


@pytest.mark.usefixtures("kept_workers")
def test_lists_may_name_missing_files_and_folders(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    folder = as_folder(tmp_path, images[:2])
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "list.txt").write_text(
        f"{folder}/d/00.png\n\n{tmp_path}/none.png\n{tmp_path}/pipe.png\n{folder}\n{folder}/d/01.png\n"
    )
    report = run(job(tmp_path, str(tmp_path / "list.txt"), model))
    assert (report.images, report.failed) == (5, 3)
    assert report.failed_by_reason == {"cannot be opened": 1, "is not a regular file": 2}


def test_planning_needs_little_memory(tmp_path: Path, images: list[tuple[str, bytes]]) -> None:
    shards = list(inputs.plan([as_tar(tmp_path, images)], 8))
    assert [shard.count for shard in shards] == [8] * 5
    assert all(not shard.names and not shard.entries for shard in shards)
    assert shards[-1].done is not None


@pytest.mark.usefixtures("kept_workers")
def test_the_command_reports_failures_by_its_exit_code(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_zip(tmp_path, images)
    options = [given, "--model", str(model), "--workers", "1", "--format", "jsonl"]
    result = CliRunner().invoke(app, ["bulk", *options, "--out", str(tmp_path / "o")])
    assert result.exit_code == 1
    assert "40 images" in result.stdout
    assert "1 failed" in result.stdout
    assert len(rows(tmp_path / "o")) == 40
    good = as_zip(tmp_path, images[:3])
    result = CliRunner().invoke(
        app, ["bulk", good, *options[1:], "--out", str(tmp_path / "p"), "--quiet"]
    )
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.fixture(scope="module")
def bucket() -> object:
    """A real S3-compatible server on this machine, and the options to reach it."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_an_object_store_is_read_like_a_folder(
    bucket: str,
    tmp_path: Path,
    images: list[tuple[str, bytes]],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("images")
    for name, content in images:
        store.pipe(f"images/loose/{name}", content)
    for form in (as_tar, as_zip, as_table, as_tar_gz):
        made = form(tmp_path, images)
        store.put(made, f"images/packed/{Path(made).name}")
    report = run(job(tmp_path, "s3://images/loose", model))
    assert (report.images, report.failed) == (40, 1)
    report = run(job(tmp_path, "s3://images/packed", model, out=tmp_path / "packed"))
    assert (report.images, report.failed) == (160, 4)
    with pytest.raises(UsageError):
        run(job(tmp_path, "s3://images/none", model, out=tmp_path / "none"))


@pytest.mark.usefixtures("kept_workers")
def test_a_report_is_json(tmp_path: Path, images: list[tuple[str, bytes]], model: Path) -> None:
    report = run(job(tmp_path, as_zip(tmp_path, images), model))
    assert isinstance(report, BulkReport)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"] == report.images
    assert summary["model"]["sha256"]


def test_an_interrupted_run_leaves_no_thread_and_no_process(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    given = as_tar(tmp_path, images * 3)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(job(tmp_path, given, model, workers=2, shard_rows=4), progress=interrupt)
    until(lambda: threading.active_count() <= before)
    report = run(job(tmp_path, given, model, workers=2, shard_rows=4, resume=True))
    assert report.images == 120
    assert report.images_now < 120


def flood(width: int, height: int) -> bytes:
    """A PNG that says it is very large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (header, body, b"IEND")
    )


@pytest.mark.usefixtures("kept_workers")
def test_exactly_the_broken_images_and_bombs_fail(
    tmp_path: Path, digits: list[bytes], model: Path
) -> None:
    bad = {
        50: flood(50_000, 50_000),
        51: flood((1 << 31) - 1, 1),
        120: flood(7000, 7000),
        200: b"",
        201: b"<html>not an image</html>",
        330: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;",
    }
    bad |= {index: digits[0][: 40 + index % 7] for index in range(7, 400, 100)}
    many = [
        (f"{index:03d}.png", bad.get(index, digits[index % len(digits)])) for index in range(400)
    ]
    given = as_tar(tmp_path, many)
    report = run(job(tmp_path, given, model, shard_rows=64))
    expected = [f"{given}::{index:03d}.png" for index in sorted(bad)]
    assert [row["source"] for row in failures(tmp_path / "out")] == expected
    assert (report.images, report.failed) == (400, len(bad))


@pytest.mark.usefixtures("kept_workers")
def test_every_page_of_a_document_is_a_row(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    pages = [documents.drawn((3,)), documents.drawn((3, 3)), documents.drawn((3,))]
    given = [
        images[0],
        ("d/scan.pdf", documents.scanned(pages)),
        ("d/scan.tif", documents.tiff(pages[:2])),
        images[BAD],
        ("d/one.pdf", documents.scanned(pages[:1])),
        ("d/torn.pdf", documents.pdf([documents.PLAIN], kids="3 0 R 9 0 R", count=2)),
    ]
    given.sort()
    for form in (as_folder, as_tar, as_zip, as_tar_gz):
        place = tmp_path / form.__name__
        place.mkdir()
        report = run(job(place, form(place, given), model))
        found = rows(place / "out")
        names = [str(row["source"]).rpartition("/")[2] for row in found]
        assert names == [
            "00.png", "05.png", "one.pdf", "scan.pdf#page=1", "scan.pdf#page=2",
            "scan.pdf#page=3", "scan.tif#page=1", "scan.tif#page=2", "torn.pdf#page=1",
            "torn.pdf#page=2",
        ]  # fmt: skip
        assert (report.images, report.failed) == (10, 2)
        failed = [str(row["source"]).rpartition("/")[2] for row in failures(place / "out")]
        assert failed == ["05.png", "torn.pdf#page=2"]


@pytest.mark.usefixtures("kept_workers")
def test_only_the_region_of_each_image_is_read(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    wide, small = io.BytesIO(), io.BytesIO()
    documents.drawn((3, 3)).save(wide, "PNG")
    documents.drawn((3,)).resize((40, 40)).save(small, "PNG")
    place = as_folder(tmp_path, [("d/a.png", wide.getvalue()), ("d/b.png", small.getvalue())])
    region = "0,0,90,100%"
    report = run(job(tmp_path, place, model, region=region))
    assert (report.images, report.failed) == (2, 1)
    found, failed = rows(tmp_path / "out")
    assert len(found["digits"]) == 1  # type: ignore[arg-type]
    assert found["width"] == 180
    assert "outside the picture of 40 x 40 pixels" in str(failed["reason"])
    with pytest.raises(UsageError, match="is not four"):
        job(tmp_path, place, model, region="1,2,3")
    with pytest.raises(UsageError, match="a template and a region"):
        job(tmp_path, place, model, region=region, template=Template((Field("a", (0, 0, 1, 1)),)))


@pytest.mark.usefixtures("kept_workers")
def test_nothing_of_an_input_is_passed_over_in_silence(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    others = [("d/a.docx", b"x"), ("d/b.DOCX", b"x"), ("d/Makefile", b"x"), ("d/.hidden", b"x")]
    for form in (as_folder, as_tar, as_zip, as_tar_gz):
        place = tmp_path / form.__name__
        place.mkdir()
        report = run(job(place, form(place, images[:3] + others), model))
        assert report.images == 3
        counts = {".docx": 2, "without an ending": 1} | ({".me": 1} if form is as_folder else {})
        assert report.not_read == counts
        assert json.loads((place / "out" / "summary.json").read_text())["not_read"] == counts
    command = ["bulk", str(tmp_path / "as_zip" / "in.zip"), "--model", str(model), "--workers", "1"]
    result = CliRunner().invoke(app, [*command, "--format", "jsonl", "--out", str(tmp_path / "o")])
    assert result.exit_code == 0
    assert "digitry: not read: 2 .docx, 1 without an ending\n" in result.stderr


@pytest.mark.usefixtures("kept_workers")
def test_resuming_a_finished_run_says_so(
    tmp_path: Path, images: list[tuple[str, bytes]], model: Path
) -> None:
    command = [
        "bulk", as_zip(tmp_path, images[:3]), "--model", str(model), "--workers", "1",
        "--format", "jsonl", "--out", str(tmp_path / "o"), "--resume",
    ]  # fmt: skip
    first = CliRunner().invoke(app, command)
    assert (first.exit_code, "finished already" in first.stderr) == (0, False)
    again = CliRunner().invoke(app, command)
    assert (again.exit_code, "the run was finished already" in again.stderr) == (0, True)


@pytest.mark.filterwarnings("ignore")
def test_an_object_store_without_credentials_is_one_line(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3fs = pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # No look for a role of this machine, which would wait for an answer.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UnavailableError, match="credentials") as caught:
        run(job(tmp_path, "s3://bucket/images", model))
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
