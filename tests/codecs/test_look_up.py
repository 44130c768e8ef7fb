from __future__ import annotations

import numpy as np

from slstream.codecs.look_up import look_up


def test_each_code_stands_for_its_number_times_the_scale_of_its_row() -> None:
    table = np.array([0.0, 1.5, -2.0], np.float32)
    codes = np.array([0, 1, 2, 2, 1, 0], np.uint8)
    codes.flags.writeable = False  # as views of received bytes are
    out = np.empty(6, np.float32)
    look_up(codes, 3, np.array([1.0, -4.0], np.float32), table, out)
    assert out.tolist() == [0.0, 1.5, -2.0, 8.0, -6.0, -0.0]


def test_a_table_may_have_256_numbers() -> None:
    table = np.linspace(-1, 1, 256, dtype=np.float32)
    codes = np.arange(256, dtype=np.uint8)
    out = np.empty(256, np.float32)
    look_up(codes, 256, np.ones(1, np.float32), table, out)
    assert np.array_equal(out, table)


def test_no_rows_are_no_work() -> None:
    nothing = np.empty(0, np.float32)
    look_up(np.empty(0, np.uint8), 1, nothing, nothing, nothing)
