"""What a chain makes of some rows of a tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slstream.adaptive import measure as measure_module
from slstream.adaptive.ladder import LADDERS, ladder
from slstream.adaptive.measure import SAMPLE_ELEMENTS, measure, sample
from slstream.codecs.chain import CodecChain
from slstream.codecs.signal_to_noise import EXACT_DB
from slstream.errors import EncodeError
from slstream.testing.codecs import activation, gradient


def chain(codec: str, **parameters: object) -> CodecChain:
    return CodecChain.from_config([{"id": codec, **parameters}])


@pytest.mark.parametrize("shape", [(512, 64), (7, 3), (1, 1), (4, 100_000), (5000, 4, 4), (0, 8)])
def test_a_sample_is_some_rows_evenly_spread(shape: tuple[int, ...]) -> None:
    tensor = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    rows = sample(tensor)
    assert rows.shape[1:] == shape[1:]
    assert rows.size <= max(SAMPLE_ELEMENTS, math.prod(shape[1:]))
    numbers = rows.reshape(-1)[:: math.prod(shape[1:])] // math.prod(shape[1:])
    assert len(set(np.diff(numbers))) <= 1
    assert len(rows) >= min(shape[0], 2) or rows.size >= SAMPLE_ELEMENTS
    if tensor.size <= SAMPLE_ELEMENTS:
        assert np.array_equal(rows, tensor)


def test_sizes_and_noise_are_those_of_the_chain() -> None:
    tensor = activation(256, 64)
    half = measure(chain("fp16"), tensor)
    assert half.bytes_per_element == pytest.approx(2, rel=0.01)
    assert 60 < half.snr_db < 90
    assert 0 < half.seconds(1) <= half.seconds(10**6)
    assert measure(chain("raw32"), tensor).snr_db == EXACT_DB
    assert measure(chain("fp16"), np.zeros((4, 4), np.float32)).snr_db == EXACT_DB
    assert measure(chain("raw32"), np.zeros((0, 4), np.float32)).snr_db == EXACT_DB


@pytest.mark.parametrize(
    ("row_s", "rows_s", "none_s", "million_s"),
    [
        pytest.param(0.010, 0.110, 0.010, 10.010, id="what any call takes is not for each element"),
        pytest.param(
            0.110, 0.010, 0.010, 0.010, id="a disturbed row makes none cost below nothing"
        ),
    ],
)
def test_seconds_are_those_of_a_call_and_of_the_elements(
    monkeypatch: pytest.MonkeyPatch, row_s: float, rows_s: float, none_s: float, million_s: float
) -> None:
    ticks = iter([0.0, row_s, 0.0, rows_s])
    monkeypatch.setattr(measure_module, "perf_counter", lambda: next(ticks))
    found = measure(chain("fp16"), np.ones((100, 100), np.float32))
    assert found.seconds(0) == none_s
    assert found.seconds(10_000) == pytest.approx(rows_s)
    assert found.seconds(1_000_000) == pytest.approx(million_s)


def test_all_noise_is_a_finite_number_too() -> None:
    tiny = np.full((1, 4), 1e-40, np.float32)
    assert -EXACT_DB <= measure(chain("q8row"), tiny).snr_db <= 0


def test_a_refusal_is_the_chains() -> None:
    with pytest.raises(EncodeError):
        measure(chain("ecsq"), np.full((1, 4), np.nan, np.float32))


@pytest.mark.parametrize("number", LADDERS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_ladder_goes_down_in_bytes_from_exact_to_the_coarsest(
    number: int, direction: str
) -> None:
    tensor = activation(512, 64) if direction == "forward" else gradient(512, 64)
    found = [measure(each, tensor) for each in ladder(number, direction)]
    sizes, quality = ([m.bytes_per_element for m in found], [m.snr_db for m in found])
    assert sizes == sorted(sizes, reverse=True)
    assert quality[0] == EXACT_DB
    assert quality[-1] == min(quality)


@pytest.mark.parametrize("number", LADDERS)
def test_ladders_have_no_state_and_gradients_no_bias(number: int) -> None:
    for each in (*ladder(number, "forward"), *ladder(number, "backward")):
        assert not each.needs_forward
    for each in ladder(number, "backward")[2:]:
        assert each.config()[0]["rounding"] == "stochastic"
