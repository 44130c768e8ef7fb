"""What a replay keeps of one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slstream.audit.tensor_dump import TensorDump
from slstream.errors import ConfigError

TENSOR = np.ones((2, 3), np.float32)


def test_a_step_that_was_not_reached_is_told_with_those_that_were(tmp_path: Path) -> None:
    dump = TensorDump((2, 8))
    for place in ((1, 1), (2, 1), (2, 7), (2, 1)):  # validation begins with step 1 again
        dump.note("activation", (*place, 0), TENSOR)
    with pytest.raises(ConfigError, match=r"\(1/1 to 2/7\), found 2/8"):
        dump.write(tmp_path / "dump.safetensors")
