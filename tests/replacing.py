"""Putting something else in the place of a part of the program, in a process of its own."""

from __future__ import annotations


def replace_attribute(owner: object, name: str, value: object) -> None:
    """Replace an attribute of a module or class for good.

    Raises:
        AttributeError: there is none. A control that replaces nothing would control nothing.
    """
    getattr(owner, name)
    setattr(owner, name, value)
