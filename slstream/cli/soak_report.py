"""What a soak test found, as a report."""

from __future__ import annotations

from slstream.bench.report import Report, Result, at_least, at_most
from slstream.soak.kill_plan import KillKind
from slstream.soak.trial import Trial


def soak_report(trial: Trial, *, seed: int) -> Report:
    """All numbers; those with a target must hold, or killing parties changes what they learn.

    Args:
        trial: what was found.
        seed: of the kills.
    """
    done = [kill.kind for kill in trial.done]
    links = trial.disturbed.links
    frames = trial.frames
    parties = len(trial.disturbed.weights)
    results = [
        at_least("weights_equal", parties - len(trial.weights_differing), "parties", parties),
        at_most("metrics_differing", trial.metrics_differ, "runs", 0),
        at_most("steps_missing", frames.missing, "frames", 0),
        at_most("steps_repeated", frames.repeated, "frames", 0),
        at_most("steps_added", frames.added, "frames", 0),
        at_most("frames_changed", frames.changed, "frames", 0),
        at_most("divergences", trial.disturbed.divergences, "frames", 0),
        at_least("kills", len(done), "kills", trial.planned),
        Result(name="kills_one", value=done.count(KillKind.ONE), unit="kills"),
        Result(name="kills_all", value=done.count(KillKind.ALL), unit="kills"),
        Result(
            name="kills_in_checkpoint_write", value=done.count(KillKind.CHECKPOINT), unit="kills"
        ),
        # Fewer, and some kill hit a process that had done its work.
        at_least("restarts", trial.disturbed.starts - parties, "processes", trial.planned),
        Result(name="duplicates", value=sum(each.duplicates for each in links), unit="records"),
        Result(name="fenced", value=sum(each.fenced for each in links), unit="records"),
        Result(name="abandoned", value=sum(each.abandoned for each in links), unit="frames"),
        Result(name="fences", value=sum(each.fences for each in links), unit="records"),
        Result(name="steps", value=trial.disturbed.steps, unit="steps"),
        Result(
            name="training_frames", value=sum(len(each.digests) for each in links), unit="frames"
        ),
        Result(name="undisturbed_s", value=trial.undisturbed.seconds, unit="s"),
        Result(name="disturbed_s", value=trial.disturbed.seconds, unit="s"),
    ]
    notes = [f"seed {seed}", f"sessions {trial.undisturbed.session}, {trial.disturbed.session}"]
    notes += [
        f"{party}: weights {trial.undisturbed.weights.get(party)} undisturbed, "
        f"{trial.disturbed.weights.get(party)} disturbed"
        for party in trial.weights_differing
    ]
    if frames.first is not None:
        notes.append(f"first: {frames.first}")
    return Report(bench="soak", results=tuple(results), notes=tuple(notes))
