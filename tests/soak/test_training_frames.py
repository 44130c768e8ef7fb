from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from slstream.errors import RemoteProtocolError
from slstream.frames.header import FrameKind
from slstream.frames.topics import LinkName
from slstream.soak.training_frames import (
    Differences,
    Place,
    TrainingFolder,
    TrainingFrames,
    differences,
)
from tests.audit.small_log import fence, frames
from tests.soak.small_links import fold, stored

BACK, CONTROL = FrameKind.GRADIENT, FrameKind.CONTROL
STEPS = [(1, 1), (1, 2), (2, 1)]


def place(epoch: int, step: int, kind: str = "gradient") -> Place:
    return Place(kind, epoch, step, 0)


def test_keeps_a_digest_of_each_training_frame() -> None:
    found = fold(
        [
            *frames(CONTROL, [(0, 0), (0, 0)]),
            *frames(BACK, STEPS, sequence=2),
            *frames(FrameKind.EVALUATION, [(2, 1)], sequence=5),
            *frames(FrameKind.ACTIVATION, [(2, 1)], sequence=6, payload=b"up"),
            *frames(CONTROL, [(0, 0)], sequence=7),
        ]
    )
    digest = hashlib.sha256(b"payload").digest()
    assert found.digests == {
        **{place(*each): digest for each in STEPS},
        place(2, 1, "activation"): hashlib.sha256(b"up").digest(),
    }
    assert (found.start, found.end) == (2, 7)
    assert found.repeated == ()


def test_a_link_without_training_has_no_part() -> None:
    found = fold(frames(CONTROL, [(0, 0)]))
    assert (found.start, found.end, found.digests) == (0, 0, {})


def test_frames_that_do_not_stand_are_counted_apart() -> None:
    again = frames(BACK, [(1, 2), (2, 1)], incarnation=2, sequence=1)
    late = frames(BACK, [(2, 1)], sequence=2)
    large = frames(BACK, [(2, 1)], sequence=2, payload=bytes(1000))
    found = fold([*frames(BACK, STEPS[:2]), large[0], fence(2), *again, *late])
    assert set(found.digests) == {place(*each) for each in STEPS}
    assert found.repeated == ()
    assert (found.fences, found.duplicates, found.fenced, found.abandoned) == (1, 1, 1, 1)


def test_a_step_that_stands_twice_is_found() -> None:
    found = fold(frames(BACK, [*STEPS, (1, 2)]))
    assert found.repeated == (place(1, 2),)


def test_counts_standing_frames_of_any_kind() -> None:
    folder = TrainingFolder(LinkName(federation="f", sender="a", receiver="b", session="s"))
    for record in [
        *frames(CONTROL, [(0, 0)]),
        fence(3),
        *frames(BACK, STEPS[:1], sequence=1, incarnation=3),
    ]:
        folder.push(stored(record.value))
    assert folder.frames == 2


def test_bytes_that_are_no_frame_are_an_error_with_a_place() -> None:
    folder = TrainingFolder(LinkName(federation="f", sender="a", receiver="b", session="s"))
    with pytest.raises(RemoteProtocolError, match=r"topic t, offset 7: TruncatedFrame: expected"):
        folder.push(stored(b"no", 7))


UNDISTURBED = fold(frames(BACK, STEPS))


def compare(disturbed: TrainingFrames) -> Differences:
    return differences([UNDISTURBED], [disturbed])


def test_equal_links_have_no_difference() -> None:
    assert compare(UNDISTURBED) == Differences(
        missing=0, added=0, repeated=0, changed=0, first=None
    )
    assert (
        compare(
            fold(
                [
                    *frames(BACK, STEPS[:2]),
                    fence(2),
                    *frames(BACK, STEPS[2:], incarnation=2, sequence=2),
                ]
            )
        ).total
        == 0
    )


@pytest.mark.parametrize(
    ("steps", "name", "first"),
    [
        (STEPS[:2], "missing", "gradient of epoch 2, step 1 from bob to alice is missing"),
        ([*STEPS, (2, 2)], "added", "gradient of epoch 2, step 2 from bob to alice is added"),
        (
            [*STEPS, (1, 1)],
            "repeated",
            "gradient of epoch 1, step 1 from bob to alice is repeated",
        ),
    ],
)
def test_each_difference_is_counted_and_the_first_told(
    steps: list[tuple[int, int]], name: str, first: str
) -> None:
    found = compare(fold(frames(BACK, steps)))
    assert getattr(found, name) == found.total == 1
    assert found.first == first


def test_another_payload_is_a_change() -> None:
    found = compare(
        fold([*frames(BACK, STEPS[:1]), *frames(BACK, STEPS[1:], sequence=1, payload=b"x")])
    )
    assert (found.changed, found.total) == (2, 2)
    assert found.first == "gradient of epoch 1, step 2 from bob to alice is changed"


def test_links_are_matched_by_their_ends() -> None:
    back = replace(UNDISTURBED, link=replace(UNDISTURBED.link, sender="alice", receiver="bob"))
    assert differences([UNDISTURBED, back], [back, UNDISTURBED]).total == 0
    found = differences([UNDISTURBED, back], [UNDISTURBED])
    assert (found.missing, found.total) == (3, 3)
    assert differences([UNDISTURBED], [UNDISTURBED, back]).added == 3


def test_a_micro_batch_is_told() -> None:
    assert str(Place("gradient", 1, 2, 3)) == "gradient of epoch 1, step 2, micro-batch 3"
