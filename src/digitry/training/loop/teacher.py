"""What a teacher says of the training images, for a student to learn beside their labels.

A large model's probabilities tell of each image what else it might have been; a small model that learns
them reads better than from the labels alone (Hinton, Vinyals & Dean 2015, Distilling the Knowledge in
a Neural Network).
"""

import numpy as np
import numpy.typing as npt

from digitry.model.artifact import Artifact
from digitry.reading.classifier import softmax
from digitry.training.data.dataset import Split
from digitry.training.evaluation import scores


def targets(teacher: Artifact, split: Split, share: float) -> npt.NDArray[np.float32]:
    """Mix the labels of images with what a teacher says of them.

    The teacher sees the images as they are, without augmentation, and says its calibrated
    probabilities. Cross-entropy is linear in what it compares with, so the loss against the mixture is
    the mixture of the losses.

    Args:
        teacher: a checked model file. One that knows `not a digit` teaches data without it what it
            thinks of an image if that is a digit. One that knows digits alone has nothing to say of
            what is none: there the label stands.
        split: training images and labels.
        share: of the teacher in the mixture, in [0, 1).

    Returns:
        (n, classes) float32, rows sum to 1; 10 classes, or 11 where a label is `not a digit`.
    """
    classes = max(10, int(split.labels.max(initial=0)) + 1)
    logits = scores.infer(teacher, split.images)[:, :classes]
    taught = np.zeros((len(split), classes))
    taught[:, : logits.shape[1]] = softmax(logits, teacher.metadata.temperature)
    told = np.eye(classes)[split.labels]
    unknown = split.labels >= logits.shape[1]
    taught[unknown] = told[unknown]
    return ((1 - share) * told + share * taught).astype(np.float32)
