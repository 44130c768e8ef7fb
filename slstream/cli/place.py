"""A place in a training, as users write it."""

from __future__ import annotations

import re

import click

Place = tuple[int, int | None]
"""Epoch, and step unless all of it is meant."""


class PlaceType(click.ParamType[Place]):
    """``EPOCH`` or ``EPOCH/STEP``."""

    name = "place"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        """Parse it."""
        match = re.fullmatch(r"(\d{1,9})(?:/(\d{1,9}))?", str(value))
        if match is None:
            self.fail(
                f"expected EPOCH or EPOCH/STEP such as 3 or 3/17, found {value!r}", param, ctx
            )
        epoch, step = match.groups()
        return int(epoch), None if step is None else int(step)
