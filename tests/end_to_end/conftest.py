"""What a simulated community comes to on a stack that nothing disturbs: crash tests compare with it."""

from __future__ import annotations

import pytest
from running import SIMULATION, stack

Digests = dict[str, tuple[int, str]]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """Rows and digest of every read model."""
    with stack(tmp_path_factory.mktemp("undisturbed")) as up:
        up.run(*SIMULATION)
        up.run("wait", "--timeout", "120")
        return up.digests()
