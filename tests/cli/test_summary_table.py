from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slstream.cli.summary_table import summary_table
from slstream.party.summary import CodecChosen, Summary
from tests.cli.examples import SUMMARY, assert_fits, rendered, words

DIRECTORY = Path("runs/breast-cancer-1")


@pytest.mark.parametrize("width", [80, 100])
def test_says_everything_and_fits(width: int) -> None:
    text = rendered(summary_table(SUMMARY, DIRECTORY), width)
    assert_fits(text, width)
    lines = words(text)
    assert "breast-cancer finished after 20 epochs and 1,280 steps" in lines
    assert "rows matched 1,512 (train 1,210, validation 302) of alice 1,540, bob 1,541" in lines
    assert "auc 0.9942 0.9951 -0.09 points" in lines
    assert "accuracy 0.9649 0.9649 none" in lines
    assert "loss 0.08213 0.0791 +0.00303" in lines
    traffic = lines[lines.index("alice to bob 840 18.4 MB 829 kB 22.2x") :]
    assert traffic[:5] == [
        "alice to bob 840 18.4 MB 829 kB 22.2x",
        "gradient ecsq(step=2, bits=4) 280 18.4 MB 820 kB 22.4x",
        "control bitmap, json 560 9.00 kB 9.00 kB 1.00x",
        "bob to alice 280 18.4 MB 700 kB 26.3x",
        "activation ecsq 280 18.4 MB 700 kB 26.3x",
    ]
    assert "all 1,120 36.8 MB 1.53 MB 24.1x" in traffic
    assert "alice 4.50 s 1.20 s 0.31 s 0.20 s 2.20 s 2 m 14 s" in lines
    assert "one process 0.84 s" in lines
    assert "alice/model.safetensors sha256 abababababababab" in lines
    assert "All of this run lies in runs/breast-cancer-1/:" in lines


def test_without_a_baseline_there_is_nothing_to_compare() -> None:
    text = rendered(summary_table(replace(SUMMARY, baseline=None), DIRECTORY))
    assert "auc 0.9942" in words(text)
    assert "difference" not in text
    assert "one process" not in text


def test_a_long_codec_breaks_between_its_parameters() -> None:
    codec = "ecsq(step=2,rounding=stochastic,block=256) > zstd(level=3,strategy=huffman)"
    summary = replace(SUMMARY, traffic=[replace(SUMMARY.traffic[0], codec=codec)])
    text = rendered(summary_table(summary, DIRECTORY))
    assert_fits(text, 80)
    assert "rounding=stochastic," in text


def test_two_codecs_of_one_direction_have_a_row_each() -> None:
    first = replace(SUMMARY.traffic[2], codec="ecsq")
    summary = replace(SUMMARY, traffic=[first, replace(first, codec="fp16")])
    lines = words(rendered(summary_table(summary, DIRECTORY)))
    assert "gradient ecsq 280 18.4 MB 820 kB 22.4x" in lines
    assert "gradient fp16 280 18.4 MB 820 kB 22.4x" in lines


def test_a_party_alone_names_its_own_files_only() -> None:
    lines = words(rendered(summary_table(SUMMARY, DIRECTORY, "bob")))
    assert "bob/model.safetensors sha256 cdcdcdcdcdcdcdcd" in lines
    assert "bob/summary.json these numbers" in lines
    assert not any(line.startswith("alice/") for line in lines)


def test_a_metric_that_the_baseline_lacks_stays_alone() -> None:
    summary = replace(SUMMARY, metrics={**SUMMARY.metrics, "own": 7.0})
    assert "own 7" in words(rendered(summary_table(summary, DIRECTORY)))


def test_a_run_that_ended_at_once_has_no_empty_tables() -> None:
    summary = Summary(
        federation="f", session="s", outcome="interrupted", epochs=1, steps=0, metrics={}
    )
    text = rendered(summary_table(summary, DIRECTORY))
    assert "f interrupted after 1 epoch and 0 steps" in words(text)
    for title in ("Validation", "Bytes", "Time", "rows matched"):
        assert title not in text


def test_names_from_elsewhere_cannot_repaint_the_terminal() -> None:
    summary = replace(SUMMARY, federation="x\x1b[2J", weights={"[red]bob": "ab" * 32})
    text = rendered(summary_table(summary, DIRECTORY))
    assert "\x1b" not in text
    assert "[red]bob/model.safetensors" in text


def test_choices_of_codecs_are_shown_with_their_reasons() -> None:
    choices = [
        CodecChosen(
            sender="bob",
            receiver="alice",
            kind="activation",
            epoch=1,
            step=step,
            codec="ecsq(step=2,rounding=stochastic)",
            reason=f"{step} ms at 13.4 dB instead of 31.3 ms (10.6 MB/s)",
        )
        for step in range(1, 15)
    ]
    text = rendered(summary_table(replace(SUMMARY, choices=choices), DIRECTORY), 80)
    assert_fits(text, 80)
    assert "1/14" in text
    assert "1/3" in text
    assert "1/2 " not in text
    assert "and 2 earlier ones, in summary.json" in text
    assert "Codecs that the senders chose" not in rendered(summary_table(SUMMARY, DIRECTORY))
