"""torchrun, as a process of its own: starts the workers of one machine, ends all when one fails, and notes how each ended.

python -m fieldwise.train.elastic FOLDER WORKERS
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from fieldwise.files import write_json
from fieldwise.train.worker import end_with


def main() -> None:
    """Run the workers of a job to their end."""
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    end_with(sys.stdin.fileno())
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # failures are told once, by us
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=folder.name,
        max_restarts=0,
        local_addr="localhost",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "elastic")),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "fieldwise.train.worker", str(folder))
    except ChildFailedError as error:
        write_json(folder / "ended.json", {str(rank): failed.exitcode for rank, failed in error.failures.items()})
        sys.exit(1)


if __name__ == "__main__":
    main()
