"""Fixtures that several folders share."""

import os

import pytest

# No test may reach a hub; the default model comes from the cache or from the PyPI wheel.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # several workers: each keeps to its share of the cores
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def pytest_collection_modifyitems(items):
    """Workers take whole files, and one takes all that drives a browser: two at once would wait for each other."""
    for item in items:
        drives = item.path.parent.name == "app" or item.get_closest_marker("browser") is not None
        item.add_marker(pytest.mark.xdist_group("browser" if drives else str(item.path)))


@pytest.fixture(scope="session")
def smollm2():
    """The real default model, shared by all tests of a run; they must not change it."""
    import nmri3d

    return nmri3d.load("smollm2-135m")
