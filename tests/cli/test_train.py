"""The verbs on models, as a user types them: what is printed, what is written, the exit code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from digitry import extras
from digitry.training.run_folder import OUTPUTS, RECORDS

from .conftest import Answer, Say

SAMPLES = Path(__file__).parents[2] / "samples"

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that the real command wrote, in a separate process."""
    place = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "digitry", "train", "dense-128", "--data", "uci"]
    done = subprocess.run(
        [*command, "--epochs", "1", "--out", "first"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (place / "printed.txt").write_text(done.stdout)
    (place / "progress.txt").write_text(done.stderr)
    return place / "first"


def one_line(answer: Answer, code: int, *words: str) -> None:
    """Check that the answer is one line on stderr, and nothing else."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("digitry: ")
    for word in words:
        assert word in lines[0]


def test_training_leaves_the_whole_run_folder(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {*RECORDS, *OUTPUTS}


def test_training_prints_what_the_classic_programs_print(trained: Path) -> None:
    printed = (trained.parent / "printed.txt").read_text()
    metrics = json.loads((trained / "metrics.json").read_text())
    test = metrics["test"]
    low, high = test["interval"]
    assert f"{100 * test['accuracy']:.2f}%" in printed
    assert f"95% interval {100 * low:.2f}% to {100 * high:.2f}%" in printed
    assert f"{test['loss']:.4f}" in printed
    assert f"{test['ece']:.4f}" in printed
    assert re.search(r"predicted \d, actual \d", printed)
    assert f"{metrics['fit_seconds']:.2f} s for 1 epoch" in printed
    assert "first/report.html" in printed
    # Progress, one line per epoch, goes to stderr.
    assert "epoch 1/1" in (trained.parent / "progress.txt").read_text()
    assert "epoch 1/1" not in printed


def test_quiet_prints_only_the_folder(say: Say) -> None:
    answer = say(
        "train", "dense-128", "--data", "uci", "--epochs", 1, "--set", "hidden=8",
        "--seed", 7, "--only", "loss,report", "--quiet",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.err == ""
    folder = Path(answer.out.strip())
    assert re.fullmatch(r"dense-128-\d{8}-\d{6}", folder.name)
    assert {path.name for path in folder.iterdir()} == {*RECORDS, "loss.png", "report.html"}
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["hidden"], recipe["seed"], recipe["epochs"]) == ([8], 7, 1)
    assert recipe["data"] == "uci"


def test_resuming_a_finished_run_changes_nothing(trained: Path, say: Say) -> None:
    before = (trained / "model.onnx").read_bytes()
    (trained / "report.html").unlink()
    answer = say("train", "--resume", trained)
    assert answer.err.endswith("is finished; nothing to train\n")
    assert answer.code == 0
    assert "test accuracy" in answer.out
    assert (trained / "model.onnx").read_bytes() == before
    assert (trained / "report.html").exists()


def test_a_training_is_logged_to_tensorboard(say: Say, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    words = ("train", "dense-128", "--data", "uci", "--epochs", 1, "--set", "hidden=8", "--quiet")
    answer = say(*words, "--only", "summary", "--out", "run", "--log", "tensorboard")
    assert answer.code == 0, answer.err
    parts = {path.parent.name for path in (tmp_path / "run" / "tensorboard").glob("*/*tfevents*")}
    assert parts == {"train", "validation", "test"}


def test_a_missing_tracker_is_an_error_before_anything_is_written(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitry.training.loop import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    words = ("train", "dense-128", "--data", "uci", "--log")
    one_line(say(*words, "mlflow"), 4, "mlflow", "pip install 'digitry[mlflow]'")
    one_line(say(*words, "wandb"), 2, "wandb", "tensorboard, mlflow")
    assert list(tmp_path.iterdir()) == []


def test_keras_is_imported_without_what_it_can_use_besides_and_only_if_needed(
    trained: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports: list[str] = []
    place = "digitry.training.network.import_keras.import_keras"
    monkeypatch.setattr(place, lambda: imports.append("keras"))
    assert say("export", trained / "model.keras", "--to", "mine.h5", "--trust").code == 0
    assert imports == ["keras"]
    assert say("export", trained / "model.keras", "--to", "mine.onnx", "--trust").code == 0
    assert imports == ["keras"] * 2
    assert say("export", trained, "--to", "its.onnx").code == 0
    assert imports == ["keras"] * 2


def test_a_wrong_call_is_one_line_and_code_2(trained: Path, say: Say) -> None:
    one_line(say("train", "dense-129"), 2, "dense-129", "dense-128")
    one_line(say("train"), 2, "no recipe is named")
    one_line(say("train", "dense-128", "--set", "depth=3"), 2, "depth")
    one_line(say("train", "dense-128", "--set", "hidden"), 2, "field=value")
    one_line(say("train", "dense-128", "--set", "epochs=many"), 2, "many")
    one_line(say("train", "dense-128", "--epochs", 0), 2, "epochs")
    one_line(say("train", "dense-128", "--device", "tpu"), 2, "tpu")
    one_line(say("train", "dense-128", "--device", "cuda:99"), 4, "'cuda:99' is not available")
    one_line(say("train", "dense-128", "--only", "nothing"), 2, "nothing", "report.html")
    one_line(say("train", "dense-128", "--out", trained), 2, "is not empty", "--resume")
    one_line(say("train", "--resume", trained, "--epochs", 5), 2, "--resume")
    one_line(say("train", "--resume", trained, "--device", "xyz"), 2, "'xyz' is not a device")
    one_line(say("train", "--resume", trained, "--log", "mlflow"), 2, "is finished", "remove --log")
    one_line(say("train", "dense-512", "--resume", trained), 2, "dense-128, not of dense-512")
    one_line(say("evaluate", trained, "--format", "xml"), 2, "xml")
    one_line(say("compare", trained), 2, "two or more")
    one_line(say("export", trained, "--format", "pmml"), 2, "pmml")
    one_line(say("export", trained), 2, "no format is given", "--format keras, h5 or onnx")
    one_line(say("export", trained, "--out", "mine.pmml"), 2, "no format is given")


def test_missing_or_damaged_input_is_one_line_and_code_3(say: Say, tmp_path: Path) -> None:
    one_line(say("train", "dense-128", "--data", tmp_path / "absent"), 3, "absent")
    one_line(say("train", "--resume", tmp_path), 3, "run.json")
    one_line(say("evaluate", tmp_path / "absent"), 3, "no such model")
    one_line(say("report", tmp_path), 3, "metrics.json")
    one_line(say("models", "--card", tmp_path / "absent.onnx"), 3, "no such model")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_device_is_an_error_before_any_data_are_loaded(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from digitry.training import datasets

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("data were loaded"))
    one_line(say("train", "dense-128", "--device", "cuda"), 4, "device 'cuda' is not available")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("verb", "needed"),
    [
        ("train dense-128 --data uci", "keras torch h5py onnx matplotlib jinja2 sklearn scipy"),
        ("train dense-128 --data uci --only loss", "keras matplotlib sklearn"),
        ("evaluate RUN", "sklearn scipy"),
        ("evaluate RUN/model.keras", "keras torch h5py onnx sklearn"),
        ("export RUN --format keras", "keras torch h5py"),
        ("export RUN/model.h5 --format onnx", "keras torch h5py onnx"),
        ("report RUN", "matplotlib jinja2"),
        ("compare RUN RUN", "scipy matplotlib"),
    ],
)
def test_without_its_extra_each_verb_names_what_is_missing_and_the_remedy(
    trained: Path, say: Say, monkeypatch: pytest.MonkeyPatch, verb: str, needed: str
) -> None:

    words = verb.replace("RUN", str(trained)).split()
    for module in needed.split():
        monkeypatch.setattr(extras, "find_spec", lambda name, gone=module: name != gone or None)
        one_line(say(*words), 4, f"not installed: {module}", "pip install 'digitry[train]'")


@pytest.mark.parametrize(
    ("verb", "absent"),
    [
        ("evaluate RUN/model.onnx --quiet", "keras,torch,h5py,onnx,matplotlib,jinja2,pooch"),
        ("export RUN --out copy.onnx", "keras,torch,h5py,onnx,matplotlib,scipy,sklearn"),
        ("compare RUN twin --out side", "keras,torch,h5py,onnx,jinja2,sklearn,pooch"),
        ("report RUN --only loss", "keras,torch,h5py,onnx,jinja2,sklearn,scipy,pooch"),
        ("models --card RUN", "keras,torch,h5py,onnx,matplotlib,jinja2,sklearn,scipy,pooch"),
        ("recipes", "keras,torch,h5py,onnx,matplotlib,jinja2,sklearn,scipy,pooch"),
    ],
)
def test_no_verb_requires_more_than_it_uses(
    trained: Path, tmp_path: Path, verb: str, absent: str
) -> None:
    shutil.copytree(trained, tmp_path / "twin")
    code = (
        "import sys\n"
        "class Absent:\n"
        "    names = sys.argv[1].split(',')\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in self.names: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "sys.argv[:2] = ['digitry']\n"
        "from digitry.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, absent, *verb.replace("RUN", str(trained)).split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_evaluate_gives_the_numbers_of_the_run(trained: Path, say: Say) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    answer = say("evaluate", trained, "--format", "json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["test"]["accuracy"] == metrics["test"]["accuracy"]
    assert found["test"]["confusion"] == metrics["test"]["confusion"]
    assert found["test"]["ece"] == pytest.approx(metrics["test"]["ece"])
    assert found["data"]["sha256"] == metrics["data"]["sha256"]
    text = say("evaluate", trained).out
    assert f"{100 * metrics['test']['accuracy']:.2f}%" in text
    assert text.count("\n") > 13  # one line per digit


def test_evaluate_knows_the_run_that_a_file_lies_in(
    trained: Path, say: Say, tmp_path: Path
) -> None:
    from digitry.cli.evaluate import _data_of

    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "data": "mine", "data_dir": "/there"}))
    for model in (folder, folder / "model.onnx", folder / "model.keras"):
        assert _data_of(str(model), None, None, {}) == ("mine", Path("/there"))
        assert _data_of(str(model), "uci", None, {}) == ("uci", None)
    # A shipped model's name is never taken as a path.
    shutil.copy(folder / "run.json", "run.json")
    assert _data_of("reader", None, None, {"data": "glyphs"}) == ("mnist", None)
    answer = say("evaluate", trained / "model.onnx", "--format", "json")
    assert json.loads(answer.out)["data"]["name"] == "uci"


def test_evaluate_takes_keras_files(trained: Path, say: Say) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    for name in ("model.keras", "model.h5"):
        answer = say("evaluate", trained / name, "--data", "uci", "--format", "json")
        assert json.loads(answer.out)["test"]["accuracy"] == metrics["test"]["accuracy"]


def test_every_verb_asks_for_trust_in_a_keras_file_from_elsewhere(
    trained: Path, say: Say, tmp_path: Path
) -> None:
    quick = ["--data", "uci", "--epochs", 1, "--only", "summary", "--quiet"]
    shutil.copy(trained / "model.keras", "mine.keras")
    verbs: list[list[object]] = [
        ["evaluate", "mine.keras", "--data", "uci"],
        ["export", "mine.keras", "--out", "mine.onnx"],
        ["export", "mine.keras", "reader", "--out", "both.onnx"],
        ["train", "dense-128", *quick, "--from", "mine.keras", "--out", "further"],
    ]
    for verb in verbs:
        one_line(say(*verb), 3, "mine.keras: is not trusted", ".onnx file", "--trust")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.keras"]
    del verbs[2]  # The reader has other labels; that its file is loaded is seen elsewhere.
    for verb in verbs:
        assert say(*verb, "--trust").code == 0
    # Resuming loads the parent again, so it needs --trust again.
    (tmp_path / "further" / "metrics.json").unlink()
    one_line(say("train", "--resume", "further"), 3, "mine.keras: is not trusted", "--trust")
    assert say("train", "--resume", "further", "--trust").code == 0


def test_recipes_are_listed(say: Say) -> None:
    text = say("recipes").out
    listed = json.loads(say("recipes", "--format", "json").out)
    names = [recipe["name"] for recipe in listed]
    assert names[:5] == ["dense-256-128", "dense-512", "dense-128-64", "dense-128-128", "dense-128"]
    assert all(name in text for name in names)
    assert "8.33%" in text  # a twelfth
    assert "20%" in text


def test_a_model_card_has_all_its_parts(trained: Path, say: Say) -> None:
    card = say("models", "--card", trained).out
    for heading in ("Data", "Scores", "Calibration", "Limits", "Recipe", "Licence"):
        assert f"## {heading}" in card
    assert "uci/test/accuracy" in card
    assert "CC BY 4.0" in card
    facts = json.loads(say("models", "--card", trained, "--format", "json").out)
    assert facts["labels"] == [str(digit) for digit in range(10)]


def test_the_shipped_models_card_names_mnist_and_its_licence(say: Say) -> None:
    card = say("models", "--card", "reader").out
    data = card[card.index("## Data") : card.index("## Scores")]
    assert "composes of MNIST and of the packs of handwriting" in data
    assert "licence: CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. J. C. Burges)" in data
    assert re.search(r"sha256 [0-9a-f]{64}", data)


def test_authors_are_spelled_as_in_the_notice() -> None:
    from digitry.training.data.dataset import LICENCES

    notice = (Path(__file__).parents[2] / "NOTICE").read_text()
    for name in ("mnist", "uci"):
        licence, authors = LICENCES[name].rstrip(")").split(" (")
        assert licence in notice
        assert authors in notice


def test_every_collection_behind_the_glyphs_stands_in_the_notice() -> None:
    from digitry.training.data.dataset import LICENCES

    notice = (Path(__file__).parents[2] / "NOTICE").read_text()
    for names in re.findall(r"\(([^)]+)\)", LICENCES["glyphs"].partition(";")[2]):
        for name in names.replace("Quick, Draw!", "Quick|Draw!").split(", "):
            assert name.replace("|", ", ") in notice, name


def test_export_names_the_file_it_wrote(trained: Path, say: Say, tmp_path: Path) -> None:
    answer = say("export", trained, "--out", "mine.keras")
    assert (answer.code, answer.out) == (0, "mine.keras\n")
    one_line(say("evaluate", "mine.keras", "--data", "uci"), 3, "mine.keras: is not trusted")
    assert say("evaluate", "mine.keras", "--data", "uci", "--trust").code == 0
    other = ["--out", "mine.h5"]
    one_line(say("export", trained / "model.onnx", *other), 2, "cannot be converted back")


def test_a_model_from_elsewhere_is_brought_in_by_the_command_that_read_names(
    trained: Path, say: Say, tmp_path: Path
) -> None:
    shutil.copy(trained / "model.keras", "mine.keras")
    sample = SAMPLES / "digit-5.png"
    read = ("read", "--model", "mine.keras", sample)
    one_line(
        say(*read), 3, "mine.keras: is a Keras file", "digitry export mine.keras --to mine.onnx"
    )
    brought = say("export", "mine.keras", "--to", "mine.onnx", "--trust")
    assert (brought.code, brought.out) == (0, "mine.onnx\n")
    assert "mine.keras: takes (n, 28, 28), pixels from 0 to 1, light ink on dark" in brought.err
    assert say("read", "--model", "mine.onnx", sample).code in (0, 1)
    # A file of the other name of the option.
    assert say("export", "mine.keras", "--out", "other.onnx", "--trust").code == 0


def test_a_training_that_fails_before_it_starts_creates_no_folder(say: Say, tmp_path: Path) -> None:
    quick = ["--data", "uci", "--epochs", 1, "--only", "summary"]
    words = ["train", "dense-128", *quick, "--out", "mine"]
    one_line(say(*words, "--quiet", "--set", "hidden=4096,4096"), 2, "recipe field hidden: gives")
    assert list(tmp_path.iterdir()) == []
    assert say(*words, "--quiet").code == 0


def test_export_never_overwrites_the_files_of_a_run(trained: Path, say: Say) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    one_line(
        say("export", trained / "model.keras", "--format", "onnx"), 2,
        "model.onnx: is the run's own file", "--out my.onnx",
    )  # fmt: skip
    one_line(say("export", trained / "model.onnx", "--format", "h5"), 2, "is the run's own file")
    for to in ("keras", "h5", "onnx"):
        answer = say("export", trained, "--format", to)
        assert answer.code == 0
        assert answer.out.strip().endswith(f"model.{to}")
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_export_joins_several_models_in_one_file(trained: Path, say: Say) -> None:
    quick = ["--data", "uci", "--epochs", 1, "--seed", 1, "--only", "summary", "--quiet"]
    assert say("train", "dense-128", *quick, "--out", "second").code == 0
    answer = say("export", trained, "second", "--out", "both.onnx")
    assert (answer.code, answer.out, answer.err) == (0, "both.onnx\n", "")
    facts = json.loads(say("models", "--card", "both.onnx", "--format", "json").out)
    assert facts["risk_coverage"]
    card = say("models", "--card", "both.onnx").out
    assert "- temperature 1.000: the mean of its members, each calibrated separately" in card
    assert "- member 2: dense-128, sha256 " in card
    assert "uci/test/accuracy" in facts["scores"]
    assert say("evaluate", "both.onnx", "--data", "uci").code == 0
    answer = say("export", trained, "second/model.onnx", "--out", "other.onnx")
    assert answer.out == "other.onnx\n"
    assert "no risk-coverage curve: second/model.onnx is not a run folder" in answer.err
    one_line(say("export", trained, "second", "--format", "onnx"), 2, "--out ensemble.onnx")
    one_line(say("export", trained, "second", "--out", "both.h5"), 2, "become one .onnx file")
    one_line(say("export", trained, trained, "--out", "both.onnx"), 2, "the same model")


def test_a_teacher_is_used_and_recorded(trained: Path, say: Say) -> None:
    quick = ["--data", "uci", "--epochs", 1, "--only", "summary", "--quiet"]
    answer = say("train", "dense-128", *quick, "--teacher", trained, "--out", "taught")
    assert answer.out == "taught\n", answer.err
    assert json.loads(Path("taught/recipe.json").read_text())["distil"] == 0.5
    sha256 = json.loads(Path("taught/run.json").read_text())["teacher_sha256"]
    card = say("models", "--card", "taught").out
    assert f"a model whose probabilities it also learned from\n  sha256 {sha256}" in card
    one_line(say("train", "dense-128", "--teacher", "none.onnx"), 3, "none.onnx", "no such model")
    one_line(say("train", "dense-128", "--set", "distil=0.3"), 2, "distil is 0.3", "--teacher")
    one_line(say("train", "--resume", "taught", "--teacher", trained), 2, "--resume", "--teacher")


def test_a_parent_is_used_and_recorded(trained: Path, say: Say) -> None:
    quick = ["--data", "uci", "--epochs", 1, "--only", "summary", "--quiet"]
    answer = say("train", "dense-128", *quick, "--from", trained, "--out", "further")
    assert answer.out == "further\n", answer.err
    sha256 = json.loads(Path("further/run.json").read_text())["parent_sha256"]
    card = say("models", "--card", "further").out
    assert f"the model whose weights its training started from\n  sha256 {sha256}" in card
    one_line(say("train", "dense-128", "--from", "none.onnx"), 3, "none.onnx", "no such model")
    one_line(
        say("train", "dense-512", *quick, "--from", f"{trained}/model.onnx"),
        3, "hidden is [128] in the model, but [512] in", "use the model's own recipe",
    )  # fmt: skip
    one_line(say("train", "--resume", "further", "--from", trained), 2, "--resume", "--from")


def test_the_learning_rate_has_a_short_name(say: Say) -> None:
    quick = ["--data", "uci", "--epochs", 1, "--only", "summary", "--quiet", "--out", "short"]
    assert say("train", "dense-128", "--set", "lr=0.002", *quick).code == 0
    assert json.loads(Path("short/recipe.json").read_text())["learning_rate"] == 0.002


def test_report_needs_only_the_run_folder(trained: Path, say: Say, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained, moved)
    for picture in moved.glob("*.png"):
        picture.unlink()
    answer = say("report", moved)
    assert answer.out == f"{moved / 'report.html'}\n"
    assert {path.name for path in moved.iterdir()} == {*RECORDS, *OUTPUTS}


def test_compare_shows_runs_side_by_side(trained: Path, say: Say, tmp_path: Path) -> None:
    other = say(
        "train", "dense-512", "--data", "uci", "--epochs", 1, "--only", "loss", "--quiet"
    ).out.strip()
    answer = say("compare", trained, other, "--out", "side")
    assert answer.code == 0
    assert "dense-128" in answer.out
    assert "dense-512" in answer.out
    assert "McNemar" in answer.out
    assert (tmp_path / "side" / "comparison.png").exists()
    found = json.loads(say("compare", trained, other, "--out", "side", "--format", "json").out)
    assert found["against"] == "first"
    first, second = found["runs"]
    assert first["comparison"] is None
    assert 0 <= second["comparison"]["p_value"] <= 1
    assert second["comparison"]["difference"] == pytest.approx(
        second["accuracy"] - first["accuracy"]
    )
    answer = say("compare", trained, other, trained)
    assert answer.code == 2
    assert answer.err.endswith("is named twice; name each run once\n")


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['digitry', 'train', '--help']\n"
        "from digitry.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'keras', 'matplotlib', 'numpy', 'scipy', 'sklearn', 'onnx'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--resume" in done.stdout
    # Markdown would drop text in angle brackets.
    assert "runs/<recipe>-<time>" in done.stdout


def test_the_public_names_of_training_import_nothing_until_they_are_used() -> None:
    code = (
        "import sys, digitry.training\n"
        "assert not {'torch', 'keras', 'numpy'} & set(sys.modules)\n"
        # As the command line does; a program of a user waits some seconds more.
        "from digitry.training.network.import_keras import import_keras; import_keras()\n"
        "from digitry.training import RECIPES, evaluate, load_dataset, train\n"
        "assert train.__module__ == 'digitry.training.library'\n"
        "assert 'dense-128' in RECIPES"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
