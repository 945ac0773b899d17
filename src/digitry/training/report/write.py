"""Writes the pictures and the report of a run; loads matplotlib only if one of them is wanted."""

from pathlib import Path

from digitry.training.run_folder import PLOTS, REPORT, Run


def write_report(run: Run, only: frozenset[str] | None = None) -> Path | None:
    """Write the requested pictures and the report of a run into its folder.

    Args:
        run: a run loaded from its folder.
        only: file names to write; None = all.

    Returns:
        The path of the report; None if it is not requested.

    Raises:
        DataError: predictions.npz is missing or damaged.
    """
    if only is not None and not only & {*PLOTS, REPORT}:
        return None
    from digitry.training.report import page

    page.write_plots(run, only)
    return page.write_html(run) if only is None or REPORT in only else None
