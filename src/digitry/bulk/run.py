"""A bulk run: from folders, archives, tables and object stores to rows, on one machine or a cluster.

The input is cut into shards (`inputs.plan`), workers read the shards, and each shard becomes one file
(`output.Output`). Both engines use the same code, so the same input gives the same files, for any number
of workers and after any interruption.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry.bulk import inputs
from digitry.bulk.job import BulkJob, BulkReport, Progress
from digitry.bulk.on_machine import read_locally
from digitry.bulk.on_ray import read_on_ray
from digitry.bulk.output import Output, environment
from digitry.errors import UnavailableError
from digitry.model.line_network import load_lines
from digitry.reading.form import form_of

if TYPE_CHECKING:
    from digitry.model.artifact import Artifact


def run(job: BulkJob, *, progress: Callable[[Progress], None] | None = None) -> BulkReport:
    """Run a bulk job and return its report.

    Args:
        job: the settings.
        progress: called after each shard, in the calling thread.

    Raises:
        UsageError: an input does not exist, or the folder holds another run.
        ModelError: the model is missing, damaged, or not a digitry model.
        UnavailableError: a package is missing that the job needs.
        DigitryError: the folder cannot be written.
    """
    from digitry.model.load import load_model

    if os.name != "posix":
        raise UnavailableError(
            "bulk reading needs Linux or macOS", remedy="use WSL, or `digitry read`"
        )
    model = load_model(job.model)
    if model.version is not None:
        # With its version, so that the whole job uses one version.
        job = replace(job, model=model.reference)
    if job.template is not None:
        # What is wrong with its reference picture is to be known before the first image.
        form_of(job.template)
    inputs.check(job.inputs)
    output = Output(Path(job.out), job.format, _identity(job, model))
    started = time.monotonic()
    images = failed = 0
    skipped: Counter[str] = Counter()
    with output.opened(resume=job.resume):
        todo = (
            shard
            for shard in inputs.plan(job.inputs, job.shard_rows, job.column, skipped)
            if not output.is_done(shard)
        )
        engine = read_locally if job.engine == "local" else read_on_ray
        for done, written in engine(job, todo, model.onnx):
            output.save(written)
            images += written.rows
            failed += len(written.failures)
            if progress is not None:
                progress(Progress(images, failed, time.monotonic() - started, done))
        seconds = time.monotonic() - started
        summary = output.finish(
            {
                "model": {"name": model.metadata.name, "sha256": model.sha256},
                "not_read": dict(sorted(skipped.items())),
                "layout": job.layout,
                "template": None if job.template is None else job.template.name,
                "engine": job.engine,
                "images_now": images,
                "seconds": round(seconds, 3),
                "images_per_second": round(images / max(seconds, 1e-6), 1),
                **environment(),
            }
        )
    kept = {field.name for field in fields(BulkReport)} - {"out"}
    return BulkReport(out=Path(job.out), **{key: summary[key] for key in kept})


def _identity(job: BulkJob, model: "Artifact") -> dict[str, Any]:
    """Return the settings that decide the rows; a run can be continued only with the same ones."""
    return {
        "inputs": list(job.inputs),
        "model": model.fingerprint,
        "lines": load_lines().fingerprint,
        "layout": job.layout,
        "max_error": job.max_error,
        "template": None if job.template is None else job.template.fingerprint,
        "column": job.column,
        "format": job.format,
        "shard_rows": job.shard_rows,
    }
