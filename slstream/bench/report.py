"""What every bench command returns: named results, some of them with a target."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measured number."""

    name: str
    value: float
    unit: str
    target: str | None = None
    """What the project aims for, for instance ``"<= 5"``; ``None`` when the number only informs."""
    holds: bool | None = None
    """Whether the target is met in this run; ``None`` without a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of one bench command."""

    bench: str
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    """What a reader must know, for instance that a data set was not present."""
    environment: dict[str, str] = field(default_factory=lambda: bench_environment())

    def to_json(self) -> str:
        """One JSON object: bench, environment, results; the notes are part of the environment."""
        return json.dumps(
            {
                "bench": self.bench,
                "environment": {**self.environment, "notes": list(self.notes)},
                "results": [asdict(result) for result in self.results],
            }
        )


def at_least(name: str, value: float, unit: str, bound: float) -> Result:
    """A result that should not be below ``bound``."""
    return Result(name=name, value=value, unit=unit, target=f">= {bound:g}", holds=value >= bound)


def at_most(name: str, value: float, unit: str, bound: float) -> Result:
    """A result that should not be above ``bound``."""
    return Result(name=name, value=value, unit=unit, target=f"<= {bound:g}", holds=value <= bound)


def bench_environment() -> dict[str, str]:
    """What the numbers depend on: processor, cores, and library versions."""
    return {
        "machine": platform.machine(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("slstream", "torch", "numpy", "numba", "zstandard")},
    }
