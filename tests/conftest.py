"""Shape and type annotations of the layers and recurrences are checked in every call that a test makes.

``BNRNN_TYPECHECK=0`` turns the checks off for a whole run, the fixture ``unchecked`` for one test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest

hypothesis.settings.register_profile("bnrnn", deadline=None, max_examples=25, derandomize=True, database=None)
hypothesis.settings.load_profile("bnrnn")

if os.environ.get("BNRNN_TYPECHECK", "1") != "0":
    jaxtyping.install_import_hook(["bnrnn.nn", "bnrnn.ops"], "typecheck.check")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """The package as a user meets it, whose own checks have to name what is wrong."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
