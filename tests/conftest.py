"""Fixtures that several folders share."""

import os

import pytest

# No test may reach a hub; the default model comes from the cache or from the PyPI wheel.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def smollm2():
    """The real default model, shared by all tests of a run; they must not change it."""
    import nmri3d

    return nmri3d.load("smollm2-135m")
