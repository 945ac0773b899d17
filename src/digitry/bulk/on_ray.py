"""The Ray engine: actors on a cluster read the shards."""

import logging
import os
import pickle
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from digitry import extras
from digitry.bulk.entry import Shard, grouped
from digitry.bulk.job import BulkJob
from digitry.bulk.output import Written
from digitry.bulk.shard import read_shard
from digitry.errors import DigitryError, UnavailableError
from digitry.model import calibration_file
from digitry.model.line_network import LineNetwork, load_lines
from digitry.workers.pool import WorkerPool

WAVE_SHARDS, WAVE_BYTES = 4096, 64 << 20
"""Shards that are given to the cluster at once, at most, and the bytes of their descriptions."""


def read_on_ray(
    job: BulkJob, todo: Iterator[Shard], model: bytes
) -> Iterator[tuple[float | None, Written]]:
    """Yield shards as the actors of Ray Data read them, each with its `done`.

    The rows come back to this machine and are written here.

    Sources: docs.ray.io/en/latest/data/performance-tips.html (block and batch sizes), and
    docs.ray.io/en/latest/ray-security/token-auth.html.
    """
    if job.address is None and "ray" not in sys.modules:
        # Ray reads these once, at import. Only this process tree knows the token.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    extras.require("cluster", "the engine ray needs", "ray")
    import ray
    import ray.data

    ours = not ray.is_initialized()
    if ours:
        _connect(ray, job)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # No reports of plans and progress from Ray.
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        workers = job.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        for wave in _waves(todo):
            # One shard per block and per batch, so that memory does not grow with the input.
            dataset = ray.data.from_items(
                [{"shard": content} for content in wave], override_num_blocks=len(wave)
            ).map_batches(
                _ShardReader,
                batch_size=1,
                batch_format="numpy",
                # Ray Data restarts actors and retries their tasks without limit: a shard of a lost
                # node is read again on another node, with the same rows.
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(wave))),
                num_cpus=1,
                fn_constructor_args=(model, _settings(job)),
            )
            for row in dataset.iter_rows():
                yield pickle.loads(row["written"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, DigitryError):
            raise cause from error
        raise DigitryError(
            f"the Ray cluster failed ({type(error).__name__}: {str(error).splitlines()[0][:120]})",
            remedy="check its logs, then run again with --resume",
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, job: BulkJob) -> None:
    """Connect to the cluster, or start a private one on this machine."""
    local: dict[str, Any] = {}
    if job.address is None:
        local = {"num_cpus": job.workers, "include_dashboard": False}
    try:
        ray.init(
            address=job.address or "local",
            log_to_driver=False,
            logging_level="error",
            configure_logging=False,
            **local,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnavailableError(
            f"the cluster cannot be reached ({' '.join(str(error).split())[:120]})",
            where=job.address,
            remedy="check the address, and RAY_AUTH_TOKEN if the cluster needs a token",
        ) from error


def _settings(job: BulkJob) -> dict[str, Any]:
    return {
        "format": job.format,
        "layout": job.layout,
        "max_error": job.max_error,
        "template": job.template,
        "wall_s": job.wall_s,
        "cpu_s": job.cpu_s,
        "lines": load_lines(),
    }


def _waves(todo: Iterator[Shard]) -> Iterator[list[bytes]]:
    # Pickle is safe here: only our own actors load it.
    packed = (pickle.dumps(shard) for shard in todo)
    return grouped(packed, len, most=WAVE_SHARDS, size=WAVE_BYTES)


class _ShardReader:
    """An actor: this process fetches images and writes rows, and one worker process reads.

    Args:
        model: the bytes of the model file, so that the nodes need no copy.
        settings: the settings of the job.
    """

    def __init__(self, model: bytes, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="digitry-")
        path = Path(self._folder.name) / "model.onnx"
        path.write_bytes(model)
        # The node may have another version of the line network, and no calibration.
        lines: LineNetwork = settings["lines"]
        network = path.with_name("lines.onnx")
        network.write_bytes(lines.onnx)
        if lines.is_users:
            calibration_file.save(calibration_file.path_of(network), lines.calibration)
        self._pool = WorkerPool(
            path,
            settings["layout"],
            1,
            max_error=settings["max_error"],
            template=settings["template"],
            wall_s=settings["wall_s"],
            cpu_s=settings["cpu_s"],
            lines=network,
        )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        read = []
        for content in batch["shard"]:
            shard: Shard = pickle.loads(content)
            written = read_shard(shard, self._pool, self._settings["format"])
            read.append(pickle.dumps((shard.done, written)))
        return {"written": read}
