"""Knowledge distillation: a teacher's probabilities as targets beside the labels.

A large model's probabilities also rate the wrong classes of each image; a small model that learns
them becomes more accurate than from the labels alone (Hinton, Vinyals & Dean 2015, Distilling the
Knowledge in a Neural Network).
"""

import numpy as np
import numpy.typing as npt

from digitry.model.artifact import DIGIT_CLASSES, Artifact
from digitry.reading.classifier import softmax
from digitry.training.data.dataset import Split
from digitry.training.evaluation import scores


def targets(teacher: Artifact, split: Split, share: float) -> npt.NDArray[np.float32]:
    """Return a mixture of one-hot labels and a teacher's calibrated probabilities.

    The teacher sees the images without augmentation. Cross-entropy is linear in its targets, so the
    loss against the mixture is the mixture of the losses.

    Args:
        teacher: a checked model file. If it has the class `not a digit` and the data has not, its
            softmax is over the digits only. If the data has that class and the teacher has not,
            those images keep their label.
        split: training images and labels.
        share: weight of the teacher in the mixture, in [0, 1).

    Returns:
        (n, classes) float32, rows sum to 1; 10 classes, or 11 where a label is `not a digit`.
    """
    classes = max(DIGIT_CLASSES, int(split.labels.max(initial=0)) + 1)
    logits = scores.infer(teacher, split.images)[:, :classes]
    taught = np.zeros((len(split), classes))
    taught[:, : logits.shape[1]] = softmax(logits, teacher.metadata.temperature)
    one_hot = np.eye(classes)[split.labels]
    unknown = split.labels >= logits.shape[1]
    taught[unknown] = one_hot[unknown]
    return ((1 - share) * one_hot + share * taught).astype(np.float32)
