"""Fieldwise: from a folder of documents to a small language model that its owner can defend."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# Nothing leaves the machine unless the recipe names where to. These switches must be set before the
# libraries are imported; a value the user has set is kept.
for _name, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OPENVINO_TELEMETRY_DISABLE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait cost a factor of ten on busy cores
    # oneDNN keeps what it has made ready for every shape it meets, 1024 of them by default: a gigabyte after an epoch of rows
    # of all lengths. With 128 a step takes as long, with none a third longer (docs/decisions.md).
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TQDM_DISABLE": "1",  # progress is shown by fieldwise.progress, in one way for all stages
}.items():
    os.environ.setdefault(_name, _value)
