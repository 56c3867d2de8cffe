"""How events that older releases stored become those of today: one step a version, on what their JSON says.

To change the shape of a stored event `x.1`: give the new type the name `x.2` in `events.STORED_NAMES`, move `x.1` into
`UPCASTERS`, and keep its golden example beside that of `x.2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple


class Upcaster(NamedTuple):
    """One step from a stored version to the next."""

    name: str
    """The stored name of the next version."""
    change: Callable[[dict[str, Any]], dict[str, Any]]
    """The value as the next version would have stored it. Pure, and never fails on what that version stored."""


UPCASTERS: Final[Mapping[str, Upcaster]] = {}
"""Stored name that nothing writes any more → the step to the next version."""
