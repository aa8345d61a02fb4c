"""Independent jobs: planned, spread over processes or a cluster, kept as they are finished."""

from timl.evaluation.runner.experiment import Experiment, Training, complete
from timl.evaluation.runner.jobs import Workers, worker_count
from timl.evaluation.runner.provenance import digest, provenance, software_versions
from timl.evaluation.runner.record import keep_same, require_same
from timl.evaluation.runner.store import CellStore

__all__ = [
    "CellStore",
    "Experiment",
    "Training",
    "Workers",
    "complete",
    "digest",
    "keep_same",
    "provenance",
    "require_same",
    "software_versions",
    "worker_count",
]
