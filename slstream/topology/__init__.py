"""The federation file, parsed and checked.

Imports nothing heavy (no torch, polars or scikit-learn): the command line starts with it.
"""

from slstream.topology.json_schema import json_schema
from slstream.topology.sections import (
    AlignmentSpec,
    CodecDirections,
    CodecRule,
    CodecSection,
    DataSource,
    EarlyStop,
    FuseSpec,
    ModelSpec,
    OptimizerSpec,
    Role,
    ScheduleSection,
    Timeouts,
    Training,
)
from slstream.topology.topology import Difference, Party, Topology

__all__ = [
    "AlignmentSpec",
    "CodecDirections",
    "CodecRule",
    "CodecSection",
    "DataSource",
    "Difference",
    "EarlyStop",
    "FuseSpec",
    "ModelSpec",
    "OptimizerSpec",
    "Party",
    "Role",
    "ScheduleSection",
    "Timeouts",
    "Topology",
    "Training",
    "json_schema",
]
