"""Load the line network that reads: the package's own, or the user's version of it.

A user's version lies on the shelf as those of glyph models do (see `versions`): `lines@2` is the second,
`lines@shipped` the package's, `lines` the one that was promoted last.
"""

import hashlib
import warnings
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from digitry import files
from digitry.errors import DigitryWarning, ModelError
from digitry.model import calibration_file, line_calibration, versions
from digitry.model.line_calibration import LineCalibration
from digitry.model.onnx_check import MAX_BYTES

NAME = "lines"
"""The name of the line network, in the package and on the shelf."""

ENDING = ".onnx"


@dataclass(frozen=True)
class LineNetwork:
    """A line network, in memory.

    Attributes:
        onnx: the bytes of the whole file.
        sha256: of the file.
        version: `shipped`, or the number of the user's version; of a file its path.
        calibration: the user's, else the network's own; without either, one that changes nothing.
        is_users: whether the calibration is the user's.
    """

    onnx: bytes = field(repr=False)
    sha256: str
    version: str
    calibration: LineCalibration
    is_users: bool = False

    @property
    def reference(self) -> str:
        """The name that always loads exactly this network: `lines@2`, or its path."""
        return self.version if self.version.endswith(ENDING) else f"{NAME}@{self.version}"

    @property
    def fingerprint(self) -> str:
        """The sha256 of everything that decides a reading: the file and its calibration."""
        return hashlib.sha256((self.sha256 + repr(self.calibration)).encode()).hexdigest()


def load_lines(reference: str | Path = NAME, *, calibrated: bool = True) -> LineNetwork:
    """Load a line network and the calibration beside it.

    If the default version is damaged, the shipped network is loaded, with a `DigitryWarning`; a
    calibration that was made for other bytes is not used, with a warning, too.

    Args:
        reference: `lines`, `lines@shipped`, `lines@2`, or a .onnx file.
        calibrated: whether the user's calibration is applied.

    Raises:
        ModelError: there is no such version, or it or its calibration is damaged.
    """
    loaded = _loaded(reference)
    if not calibrated:
        return loaded
    found = calibration_file.find(calibration_path(loaded.reference), LineCalibration)
    if found is None:
        return loaded
    if found.model_sha256 != loaded.sha256:
        warnings.warn(
            f"{loaded.reference}: its calibration to {found.source} was made for another network and "
            f"is not used; {line_calibration.REMEDY}",
            DigitryWarning,
            stacklevel=2,
        )
        return loaded
    return LineNetwork(loaded.onnx, loaded.sha256, loaded.version, found, is_users=True)


def calibration_path(reference: str = NAME) -> Path | None:
    """Return the path of the user's calibration; None if this user has no home folder."""
    if reference.endswith(ENDING):
        return calibration_file.path_of(Path(reference))
    number = number_of(reference)
    if number is None:
        return calibration_file.path_of_name(NAME)
    return calibration_file.path_of(versions.file_of(NAME, number))


def number_of(reference: str) -> int | None:
    """Return the number of the version that a name stands for; None = the shipped network.

    Raises:
        ModelError: the name is not that of a line network.
    """
    name, at, version = reference.partition("@")
    if name == NAME and not at:
        try:
            return versions.default_number(NAME)
        except ModelError:
            return None
    if name != NAME:
        raise ModelError(
            f"{reference!r} is not a line network",
            remedy=f"write {NAME}, a version of it from `digitry models list`, or a .onnx file",
        )
    return versions.numbered(NAME, version)


def parse(content: bytes, version: str) -> LineNetwork:
    """Return a line network with the calibration that it holds.

    Raises:
        ModelError: it is damaged.
    """
    try:
        own = line_calibration.of_network(content)
    except ModelError as error:
        raise ModelError(error.what, where=f"{NAME}@{version}", remedy=error.remedy) from error
    digest = hashlib.sha256(content).hexdigest()
    return LineNetwork(content, digest, version, own or LineCalibration())


@cache
def _shipped() -> LineNetwork:
    content = (resources.files("digitry") / "models" / f"{NAME}.onnx").read_bytes()
    return parse(content, versions.SHIPPED_VERSION)


def _loaded(reference: str | Path) -> LineNetwork:
    reference = str(reference)
    if reference.endswith(ENDING):
        try:
            return parse(files.read_bytes(Path(reference), MAX_BYTES), reference)
        except OSError as error:
            raise ModelError(
                f"no such line network ({error.strerror})",
                where=reference,
                remedy="name a .onnx file",
            ) from error
    if reference != NAME:
        number = number_of(reference)
        return _shipped() if number is None else _version(number)
    try:
        number = versions.default_number(NAME)
        return _shipped() if number is None else _version(number)
    except ModelError as error:
        warnings.warn(f"{error}; the shipped network is used", DigitryWarning, stacklevel=3)
        return _shipped()


def _version(number: int) -> LineNetwork:
    return parse(versions.content(versions.find(NAME, number)), str(number))
