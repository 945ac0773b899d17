"""A program that the Ray tests run as a process: python ray_runs.py nodes|one IN OUT MODEL."""

import os
import sys
import threading

from digitry.bulk.job import BulkJob, Progress
from digitry.bulk.run import run

how, given, out, model = sys.argv[1:]
job = BulkJob(
    inputs=[given],
    out=out,
    model=model,
    format="jsonl",
    engine="ray",
    workers=2 if how == "one" else 4,
    shard_rows=50,
)
if how == "one":
    print("\nRESULT", run(job).images, flush=True)
    # A private cluster needs a private token.
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    sys.exit()

import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
second = cluster.add_node(num_cpus=2)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
alive = [sum(node["Alive"] for node in ray.nodes())]
lost = threading.Event()


def lose(progress: Progress) -> None:
    if not lost.is_set() and progress.images >= 300:
        lost.set()
        cluster.remove_node(second, allow_graceful=False)


report = run(job, progress=lose)
alive.append(sum(node["Alive"] for node in ray.nodes()))
print("\nRESULT", report.images, *alive, flush=True)
ray.shutdown()
cluster.shutdown()
