"""Small sources of training strips, drawn here.

Keras is imported as the command line does: everything that it can use besides costs seconds in each
process that runs tests.
"""

import importlib.util

import cv2
import numpy as np
import pytest

from digitry.training.writing.hands import Hands, from_images
from digitry.training.writing.real import Real
from digitry.training.writing.strings import Others
from digitry.training.writing.strips import Sources

WRITERS = 3

if importlib.util.find_spec("keras") is not None:
    from digitry.training.network.import_keras import import_keras

    import_keras()


def glyph(char: str, thick: int = 3) -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    cv2.putText(image, char, (5, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.85, 255, thick, cv2.LINE_AA)
    return image


@pytest.fixture(scope="session")
def hands() -> Hands:
    images = [glyph(str(label), 2 + writer) for writer in range(WRITERS) for label in range(10)]
    labels = np.tile(np.arange(10), WRITERS)
    return from_images(np.stack(images), labels, np.repeat(np.arange(WRITERS), 10))


@pytest.fixture(scope="session")
def sources(hands: Hands) -> Sources:
    letters = [glyph(char)[4:26, 4:24] for char in "ABKRW"]
    word = np.concatenate(letters, axis=1)
    real = Real(np.concatenate([glyph("4"), glyph("2")], axis=1), (4, 2), 6, 24)
    return Sources(
        hands=[hands],
        shares=[1.0],
        others=Others(letters, [word], {}),
        real=[real],
        chances=np.ones(1),
        text=[Real(word, (), 4, 18)],
        doodles=[glyph("@")],
    )
