"""The options of `nmri3d serve`: how they are given, and what they do to models and tokens."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import typer.main
from typer.testing import CliRunner

from nmri3d.app.serve import WebServer, run
from nmri3d.cli import app
from nmri3d.errors import ModelAccessError
from nmri3d.service import Service
from tests.api.wire import running
from tests.service.fakes import PATIENCE, FakeLoader


@pytest.fixture
def service():
    service = Service(loader=FakeLoader())
    yield service
    assert service.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"host": "0.0.0.0"}, ()),
        ({"allowed_hosts": ["hub.example.org"]}, ()),
        ({"models_from": ["here"]}, ("here",)),
        ({"host": "0.0.0.0", "models_from": ["here", "there"]}, ("here", "there")),
    ],
)
def test_off_this_machine_no_local_model_is_loaded_unless_its_folder_was_given(
    service, tmp_path, monkeypatch, options, expected
):
    monkeypatch.chdir(tmp_path)
    server = WebServer(service, port=0, **options)
    server._listener.close()
    assert service.model_folders == (None if expected is None else tuple(tmp_path / name for name in expected))


def test_page_and_rest_obey_alike(service, tmp_path):
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    allowed.mkdir()
    other.mkdir()
    with running(service, token="", models_from=[allowed]) as server:
        refused = httpx.post(f"{server.address}api/model/load", json={"model_id": str(other)}, timeout=PATIENCE)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:nmri3d:error:ModelAccessError")
        with pytest.raises(ModelAccessError, match="--models-from"):  # what the page's menu calls
            service.load(str(other))
        assert service._slot._loader.calls == []
        taken = httpx.post(f"{server.address}api/model/load", json={"model_id": str(allowed)}, timeout=PATIENCE)
        assert taken.status_code == 200, taken.text
    assert [name for name, _ in service._slot._loader.calls] == [str(allowed)]


@pytest.fixture
def asked(monkeypatch):
    """What `nmri3d serve` asks of `run`."""
    given = {}
    monkeypatch.setattr("nmri3d.app.serve.run", lambda **options: given.update(options) or True)
    return given


def invoke(*arguments, **environment):
    return CliRunner().invoke(app, ["serve", *arguments], env={"NMRI3D_TOKEN": None, **environment})


@pytest.mark.parametrize(
    ("arguments", "environment", "token"),
    [
        ((), {}, None),
        ((), {"NMRI3D_TOKEN": "of-the-environment"}, "of-the-environment"),
        ((), {"NMRI3D_TOKEN": ""}, None),  # a variable that was left empty must not open the door
        (("--token", "given"), {"NMRI3D_TOKEN": "of-the-environment"}, "given"),
        (("--token", ""), {}, ""),
    ],
)
def test_the_token_comes_from_the_option_else_from_the_environment(asked, arguments, environment, token):
    found = invoke(*arguments, **environment)
    assert found.exit_code == 0, found.output
    assert asked["token"] == token


def test_the_options_reach_the_server(asked):
    options = (
        "--host 0.0.0.0 --port 9000 --allow-host a.example --allow-host b.example --tls-cert c.pem --tls-key k.pem"
    )
    more = "--frame-ancestors self --models-from m --models-from n --rate 0 --sessions s --log-format json --log-level debug"
    assert invoke(*options.split(), *more.split(), "--no-open").exit_code == 0
    expected = {
        "host": "0.0.0.0",
        "port": 9000,
        "allowed_hosts": ["a.example", "b.example"],
        "tls_cert": Path("c.pem"),
        "tls_key": Path("k.pem"),
        "frame_ancestors": "self",
        "models_from": [Path("m"), Path("n")],
        "rate": 0.0,
        "sessions": Path("s"),
        "log_format": "json",
        "log_level": "debug",
        "open_browser": False,
    }
    assert {name: asked[name] for name in expected} == expected


@pytest.mark.parametrize(
    "arguments",
    [("--rate", "-1"), ("--port", "x"), ("--log-level", "loud"), ("--log-format", "xml"), ("--render", "none")],
)
def test_options_that_cannot_be_are_bad_usage(asked, arguments):
    assert invoke(*arguments).exit_code == 2
    assert not asked


def test_the_help_tells_every_option_what_it_is_for():
    command = typer.main.get_command(app).commands["serve"]
    assert [option.name for option in command.params if not getattr(option, "help", None)] == []


def test_off_this_machine_and_in_the_clear_a_person_is_warned(service, capsys, monkeypatch):
    async def at_once(self):
        self._listener.close()

    monkeypatch.setattr(WebServer, "serve", at_once)
    assert run(service, host="0.0.0.0", port=0, model=None, open_browser=False)
    assert "can be read on the way" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["local", "public"])
def test_the_model_of_the_command_line_may_always_be_loaded_again(service, tmp_path, monkeypatch, where):
    async def at_once(self):
        self._listener.close()

    monkeypatch.setattr(WebServer, "serve", at_once)
    folder = tmp_path / "mine"
    folder.mkdir()
    host = "0.0.0.0" if where == "public" else "127.0.0.1"
    run(service, host=host, port=0, model=str(folder), open_browser=False)
    assert service.model_folders == ((folder.resolve(),) if where == "public" else None)
