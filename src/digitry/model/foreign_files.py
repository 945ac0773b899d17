"""Tells model files of other programs apart, and what to do with each."""

import io
import shlex
import zipfile
from pathlib import Path

from digitry.errors import ModelError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ONNX_FIRST = "write it as ONNX with {writer}, then run: digitry export MODEL.onnx --to {target}"


def check_not_foreign(content: bytes, path: Path) -> None:
    """Check that a model is not in the format of another program.

    Args:
        content: the start of the file is enough, except for zip archives.
        path: of the file.

    Raises:
        ModelError: it is; the message names the format and the command that brings it in.
    """
    found = _format(content)
    if found is not None:
        what, remedy = found
        raise ModelError(
            f"is {what}, not a digitry model",
            where=path,
            remedy=remedy.format(
                path=shlex.quote(str(path)),
                target=shlex.quote(f"{path.stem}-digitry.onnx"),
                result=shlex.quote(f"{path.stem}.onnx"),
            ),
        )


def check_not_saved_model(folder: Path) -> None:
    """Check that a folder is not a TensorFlow SavedModel.

    Raises:
        ModelError: it is.
    """
    if (folder / "saved_model.pb").exists():
        raise ModelError(
            "is a TensorFlow SavedModel, not a run folder",
            where=folder,
            remedy=_ONNX_FIRST.format(
                writer="tf2onnx", target=shlex.quote(f"{folder.name}-digitry.onnx")
            ),
        )


def not_ours(source: str) -> ModelError:
    """Return the error for an ONNX model without digitry's metadata."""
    target = shlex.quote(f"{Path(source).stem}-digitry.onnx")
    return ForeignModelError(
        "is not a digitry model: it has no digitry metadata",
        where=source,
        remedy=f"run: digitry export {shlex.quote(source)} --to {target}",
    )


class ForeignModelError(ModelError):
    """An ONNX model that another program wrote; `digitry export` brings it in."""


def _format(content: bytes) -> tuple[str, str] | None:
    """Return the name of a foreign format and what to do; None if it is not one of these."""
    keras = (
        "a Keras file",
        ("if you trust its author, run: digitry export {path} --to {result} --trust"),
    )
    if content.startswith(_HDF5):
        return keras
    if content.startswith(b"PK\x03\x04"):
        names = _names(content)
        if "config.json" in names:
            return keras
        if any(name.endswith("data.pkl") for name in names):
            return "a PyTorch file", _ONNX_FIRST.replace("{writer}", "torch.onnx.export")
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        writers = "skl2onnx (scikit-learn) or torch.onnx.export (PyTorch)"
        return "a pickle", _ONNX_FIRST.replace("{writer}", writers)
    if content[4:8] == b"TFL3":
        return "a TensorFlow Lite file", _ONNX_FIRST.replace("{writer}", "tf2onnx")
    return None


def _names(content: bytes) -> list[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return []
