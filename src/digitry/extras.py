"""Optional packages: what is not installed is said before any work starts."""

from importlib.util import find_spec

from digitry.errors import UnavailableError


def require(
    extra: str, what: str, *modules: str, where: object = None, otherwise: str = ""
) -> None:
    """Check that modules of an extra are installed.

    Args:
        extra: the extra of digitry that installs them.
        what: what needs them, with its verb: "writing Parquet needs".
        modules: import names.
        where: the file that needs them.
        otherwise: what to do instead, after the remedy.

    Raises:
        UnavailableError: a module is missing.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"{what} the extra `{extra}`; not installed: {', '.join(missing)}",
            where=where,
            remedy=f"pip install 'digitry[{extra}]'{otherwise}",
        )
