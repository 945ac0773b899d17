"""MNIST's disputed test labels: fifteen labels that people who look at the images disagree with.

Northcutt, Athalye & Mueller 2021, "Pervasive Label Errors in Test Sets Destabilize Machine Learning
Benchmarks", arxiv.org/abs/2103.14749, found 100 suspects among the 10,000 and showed each to five
people, together with a model's guess. Their answers are public (github.com/cleanlab/label-errors,
mturk/mnist_mturk.json); this list is counted from them. Nobody knows these digits for certain, so
scores without them are shown beside the official ones and never replace them.
"""

from collections.abc import Mapping

MNIST_TEST = "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"
"""The `scores.fingerprint` of MNIST's test part."""

DISPUTED: Mapping[int, str] = {
    947: "labelled 8, most people say 9",
    1621: "labelled 0, most people say 6",
    1901: "labelled 9, most people say 4",
    2130: "labelled 4, people are split",
    2462: "labelled 2, most people say 0",
    2597: "labelled 5, most people say 3",
    2654: "labelled 6, most people say neither that nor the other guess",
    3520: "labelled 6, most people say neither that nor the other guess",
    3558: "labelled 5, most people say 0",
    5937: "labelled 5, most people say 3",
    6651: "labelled 0, most people say 6",
    6783: "labelled 1, most people say 6",
    8527: "labelled 4, people are split",
    9679: "labelled 6, most people say neither that nor the other guess",
    9729: "labelled 5, most people say 6",
}
"""Index in MNIST's test part, from 0 -> the dispute."""


def disputed_in(fingerprint: str) -> tuple[int, ...]:
    """Return the indices of disputed labels in a set of images.

    Args:
        fingerprint: `scores.fingerprint` of the set. Only MNIST's test part has disputed labels.
    """
    return tuple(DISPUTED) if fingerprint == MNIST_TEST else ()
