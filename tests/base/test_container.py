"""The container file: linted, its parts agree with the program, and its health check tells well from ill.

Its RUN lines and the start of its server are run by `.ci/container`.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from nmri3d.app.listening import DEFAULT_PORT
from nmri3d.service import Service
from tests.api.wire import running
from tests.service.fakes import FakeLoader

TOP = Path(__file__).resolve().parents[2]
FILE = TOP / "assets/container/Containerfile"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(TOP / ".ci/container"))


@pytest.fixture(scope="module")
def lines(script):
    return script["instructions"](FILE.read_text())


def words_of(lines, name):
    (arguments,) = [arguments for word, arguments in lines if word == name]
    return json.loads(arguments[arguments.index("[") :])


def test_it_passes_the_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    program = str(hadolint) if hadolint.exists() else shutil.which("hadolint")
    assert program, "hadolint is not installed; it is one of the dev dependencies"
    found = subprocess.run([program, FILE], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_what_is_copied_is_there_and_nothing_else_is_sent(lines):
    copied = {source for word, arguments in lines if word == "COPY" for source in arguments.split()[:-1]}
    assert {name for name in copied if not (TOP / name).exists()} == set()
    ignore = FILE.with_name("Containerfile.dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


def test_it_does_not_run_as_root(lines):
    (user,) = [arguments for word, arguments in lines if word == "USER"]
    assert int(user) > 0
    names = [word for word, _ in lines]
    assert names.index("USER") < names.index("CMD")


def test_the_pinned_versions_are_installed(lines):
    (install,) = [arguments for word, arguments in lines if word == "RUN" and "pip install" in arguments]
    assert "-c /src/constraints.txt" in install


def test_the_command_is_one_that_the_program_takes(lines):
    from nmri3d.cli import app

    program, name, *arguments = words_of(lines, "CMD")
    assert program.endswith("/bin/nmri3d")
    command = typer.main.get_command(app).commands[name]
    given = command.make_context(name, arguments).params
    assert (given["host"], given["open_browser"], given["port"]) == ("0.0.0.0", False, DEFAULT_PORT)
    assert [arguments for word, arguments in lines if word == "EXPOSE"] == [str(DEFAULT_PORT)]


def test_the_health_check_asks_with_the_token_and_fails_while_it_is_not_ready(lines):
    _, *arguments = words_of(lines, "HEALTHCHECK")
    service = Service(loader=FakeLoader())
    service._slot._loader.errors["broken"] = [ValueError("broken")]
    with running(service, token="the-token-of-the-container") as server:
        check = [sys.executable, *(word.replace(f":{DEFAULT_PORT}/", f":{server.port}/") for word in arguments)]

        def health(token):
            environment = {**os.environ, "NMRI3D_TOKEN": token}
            return subprocess.run(check, env=environment, capture_output=True).returncode

        assert health("the-token-of-the-container") == 0
        assert health("wrong") != 0
        with pytest.raises(ValueError, match="broken"):
            service.load("broken")
        assert health("the-token-of-the-container") != 0
    assert health("the-token-of-the-container") != 0  # nobody is there
    assert service.close()


def test_lines_are_joined_and_paths_are_mapped(script, tmp_path):
    text = "# note\nFROM x:1\n# a note\nRUN one \\\n    && two /src/a\nENV A=1 \\\n    B=2\n"
    assert script["instructions"](text) == [("FROM", "x:1"), ("RUN", "one && two /src/a"), ("ENV", "A=1 B=2")]
    here = script["mapping"](Path("/v"), tmp_path)
    assert here("/opt/nmri3d/bin/pip install /src") == f"/v/bin/pip install {tmp_path}/src"
    assert here("rm -rf /var/lib/apt/lists/*") == f"rm -rf {tmp_path}/var/lib/apt/lists/*"
    assert here("PATH=/opt/nmri3d/bin:$PATH /srcs /usr/src") == "PATH=/v/bin:$PATH /srcs /usr/src"


def test_ci_runs_its_lines():
    assert ".ci/container .ci-venv" in (TOP / ".ci/run").read_text()
    assert os.access(TOP / ".ci/container", os.X_OK)
