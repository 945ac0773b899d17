"""A model of another program is named as what it is, with the command that brings it in."""

import io
import pickle
import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from digitry.errors import ModelError
from digitry.model.load import load_model


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return stream.getvalue()


def plain_onnx() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Shape", ["image"], ["sides"])],
        "foreign",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [helper.make_tensor_value_info("sides", TensorProto.INT64, [4])],
    )
    content: bytes = helper.make_model(graph).SerializeToString()
    onnx.checker.check_model(content)
    return content


KERAS = "is a Keras file, .*run: digitry export {path} --to {stem}.onnx --trust"
FORMATS = {
    "mine.keras": (zipped("config.json", "metadata.json", "model.weights.h5"), KERAS),
    "mine.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), KERAS),
    "mine.pt": (zipped("mine/data.pkl", "mine/data/0"), "is a PyTorch file, .*torch.onnx.export"),
    "mine.pkl": (pickle.dumps([1, 2]), "is a pickle, .*skl2onnx"),
    "mine.tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "is a TensorFlow Lite file, .*tf2onnx"),
    "mine.onnx": (plain_onnx(), "has no digitry metadata; .*digitry export {path} --to"),
    "with space.keras": (zipped("config.json"), "digitry export '{path}' --to 'with space.onnx'"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_named_with_the_command_to_run(name: str, tmp_path: Path) -> None:
    content, expected = FORMATS[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=expected.format(path=path, stem=path.stem)) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert "copy it again" not in str(caught.value)


def test_a_saved_model_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a TensorFlow SavedModel, .*tf2onnx"):
        load_model(tmp_path)


def test_another_zip_archive_is_not_called_a_keras_file(tmp_path: Path) -> None:
    for content in (zipped("a.txt"), b"PK\x03\x04" + bytes(20)):
        (tmp_path / "mine.zip").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            load_model(tmp_path / "mine.zip")
        assert "Keras" not in str(caught.value)
