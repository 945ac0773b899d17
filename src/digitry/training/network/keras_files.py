"""Saves a model as .keras, .h5 and .onnx with equal results, and loads Keras files."""

import contextlib
import hashlib
import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from digitry import files
from digitry.errors import ModelError
from digitry.model import artifact
from digitry.model.artifact import MODEL_FILE, Artifact, Metadata
from digitry.model.load import load_model
from digitry.reading.classifier import Classifier, softmax
from digitry.training import run_folder
from digitry.training.network.build import MAX_PARAMETERS, keras
from digitry.training.network.to_onnx import to_onnx

TOLERANCE = 1e-5
"""Largest allowed difference of a probability between the formats."""

MAX_BYTES = 3 * 4 * MAX_PARAMETERS + (4 << 20)
"""Largest Keras file that is read: 4 bytes per parameter, and as much for each of Adam's two moments."""

TRUST = (
    "use its run folder or a .onnx file; if you trust the author of the file, add --trust "
    "(in Python: trust=True)"
)
"""What to do about a Keras file that no run folder records."""

Floats = npt.NDArray[np.float32]


def save_formats(
    model: keras.Model, folder: Path, metadata: Metadata, glyphs: Floats
) -> dict[str, str]:
    """Save a model as model.keras, model.h5 and model.onnx, if all three give the same results.

    All are written to temporary files and read back; their labels must be the same, and each
    probability within `TOLERANCE`. Only then are they moved into place.

    Args:
        model: from (n, 28, 28) float32 in [0, 1], ink = 1, to softmax probabilities.
        folder: where they are written; created if it does not exist.
        metadata: of the .onnx file.
        glyphs: (n, 28, 28) float32 in [0, 1]; the images they are compared on.

    Returns:
        The sha256 of the two Keras files, by name.

    Raises:
        ModelError: they differ, or a layer cannot be exported; existing files are unchanged.
        DigitryError: the folder cannot be written.
    """
    reference = probabilities(model, glyphs)
    if model.compiled and model.optimizer and not model.optimizer.built:
        # Otherwise Keras warns when loading that the optimizer's variables are missing.
        model.optimizer.build(model.trainable_variables)
    with contextlib.ExitStack() as stack:
        native, legacy, graph = (
            stack.enter_context(files.replacing(folder / name)) for name in run_folder.MODELS
        )
        model.save(native)
        with without_h5_warning():
            model.save(legacy)
        artifact.save(graph, to_onnx(model), metadata)
        for name, path in ((run_folder.KERAS_FILE, native), (run_folder.H5_FILE, legacy)):
            loaded = keras.saving.load_model(path, compile=False)
            _agree(reference, probabilities(loaded, glyphs), folder / name)
        _agree(reference, _run_onnx(load_model(graph), glyphs), folder / MODEL_FILE)
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in ((run_folder.KERAS_FILE, native), (run_folder.H5_FILE, legacy))
        }


def probabilities(model: keras.Model, glyphs: Floats) -> Floats:
    """Return the probabilities that a Keras model gives.

    Args:
        model: with softmax outputs.
        glyphs: (n, 28, 28) float32 in [0, 1].

    Returns:
        (n, classes) float32.
    """
    parts = [np.zeros((0, model.output_shape[-1]), np.float32)]
    # Run on the model's own device, not on Keras' default device.
    device = model.weights[0].value.device if model.weights else torch.device("cpu")
    name = f"gpu:{device.index or 0}" if device.type == "cuda" else device.type
    # By default a GPU's convolutions round to ten bits (TF32). This is enough for training, but half
    # of all probabilities would differ from the other formats' by more than `TOLERANCE`.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.no_grad(), keras.device(name), exact:
        for at in range(0, len(glyphs), 1000):
            part = torch.from_numpy(np.ascontiguousarray(glyphs[at : at + 1000])).to(device)
            parts.append(model(part, training=False).numpy(force=True))
    joined: Floats = np.concatenate(parts)
    return joined


def _run_onnx(found: Artifact, glyphs: Floats) -> Floats:
    return softmax(Classifier(found, threads=2).logits(glyphs)).astype(np.float32)


def _agree(reference: Floats, found: Floats, path: Path) -> None:
    if found.shape != reference.shape:
        difference = np.inf
    else:
        difference = float(np.abs(found - reference).max(initial=0))
    # `not <=` also catches NaN.
    if not difference <= TOLERANCE:
        what = f"gives probabilities that differ by {difference:.1e} from the trained model's"
    elif (found.argmax(-1) != reference.argmax(-1)).any():
        what = "gives different labels than the trained model"
    else:
        return
    raise ModelError(
        what,
        where=path,
        remedy="nothing was saved, existing files are unchanged; please report this",
    )


def load_keras(path: Path, *, trust: bool = False) -> keras.Model:
    """Load a .keras or .h5 file that digitry wrote, or whose author the user trusts.

    Keras loads it in its safe mode, which refuses Python code in the file. This does not protect
    against a malicious file; for models from unknown authors use ONNX.

    Args:
        path: the file; the metrics.json of its run folder must record its sha256.
        trust: load it even if its sha256 is not recorded.

    Raises:
        ModelError: it is missing, too large, neither recorded nor trusted, damaged, or refused by
            Keras' safe mode.
    """
    content = _read(path)
    if not trust:
        _check_recorded(path, content)
    if path.suffix == ".keras" and not zipfile.is_zipfile(io.BytesIO(content)):
        raise ModelError("is not a complete .keras file", where=path, remedy="copy it again")
    with tempfile.TemporaryDirectory(prefix="digitry-") as folder:
        # Keras reads a copy of the bytes that were checked, even if the file changes now.
        copy = Path(folder) / f"model{path.suffix}"
        try:
            copy.write_bytes(content)
            loaded = keras.saving.load_model(copy, compile=False, safe_mode=True)
            # A loaded model may have several graphs, of which `layer.input` gives the first only; a
            # clone has one graph.
            model = keras.models.clone_model(loaded)
            model.set_weights(loaded.get_weights())
        except Exception as error:
            # Keras passes on any error of its JSON and HDF5 readers; they have no common base class.
            reason = (str(error) or type(error).__name__).split(". ")[0].splitlines()[0][:200]
            raise ModelError(
                f"cannot be loaded in Keras' safe mode: {reason.replace(str(copy), path.name)}",
                where=path,
                remedy="use a Keras 3 model that has only Keras' own layers",
            ) from error
    if model.count_params() > MAX_PARAMETERS:
        raise ModelError(
            f"has {model.count_params():,} parameters; the limit is {MAX_PARAMETERS:,}",
            where=path,
            remedy="use a smaller model",
        )
    return model


def _read(path: Path) -> bytes:
    """Return the bytes of a Keras file of at most `MAX_BYTES`."""
    if not path.is_file():
        raise ModelError("no such model", where=path, remedy="name a .keras or .h5 file")
    try:
        if path.stat().st_size <= MAX_BYTES:
            return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot be read ({error.strerror})", where=path, remedy="copy it again"
        ) from error
    raise ModelError(
        f"is larger than {MAX_BYTES >> 20} MiB", where=path, remedy="use a smaller model"
    )


def _check_recorded(path: Path, content: bytes) -> None:
    """Raise a `ModelError` unless the run folder of a file records its sha256."""
    recorded = run_folder.recorded_sha256(path)
    if recorded == hashlib.sha256(content).hexdigest():
        return
    if recorded is not None:
        what = f"has changed since {run_folder.METRICS} was written: its sha256 differs"
    elif (path.parent / run_folder.METRICS).exists():
        what = f"is not trusted: {run_folder.METRICS} does not record its sha256"
    else:
        what = "is not trusted: it is not in a run folder"
    raise ModelError(what, where=path, remedy=TRUST)


@contextlib.contextmanager
def without_h5_warning() -> Iterator[None]:
    """Suppress Keras' warning about .h5 files, which we write on purpose; other messages stay."""

    def is_news(record: logging.LogRecord) -> bool:
        return "HDF5 file" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
