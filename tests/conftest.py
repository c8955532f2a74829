"""Fixtures that several folders share."""

import os

import pytest

# No test may reach a hub; the default model comes from the cache or from the PyPI wheel.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # several workers: each keeps to its share of the cores
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers take whole files, and one takes all that drives a browser: two at once would wait for each other."""
    from xdist.scheduler import LoadScopeScheduling

    class OneBrowser(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::", 1)[0]
            return "browser" if file.startswith(("tests/app/", "tests/export/test_web_page")) else file

    return OneBrowser(config, log)


_ended: set[str] = set()


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem, report, sched):
    """A test whose worker died, or hung and was ended, is tried once more, and the summary counts it as a rerun.

    Software rendering has hung once in many runs, out of reach of any time limit within the process. The scheduler hands
    the rest of the file, this test first, to the next worker by itself.
    """
    if crashitem not in _ended:
        _ended.add(crashitem)
        report.outcome = "rerun"


@pytest.fixture(scope="session")
def smollm2():
    """The real default model, shared by all tests of a run; they must not change it."""
    import nmri3d

    return nmri3d.load("smollm2-135m")
