"""Static files: the right one, never one outside, compressed once, not sent twice."""

from __future__ import annotations

import gzip
import os

import pytest
from starlette.requests import Request

from nmri3d.app.static_files import StaticFiles

TEXT = "export const answer = 42;\n" * 50


@pytest.fixture
def root(tmp_path):
    (tmp_path / "www" / "assets").mkdir(parents=True)
    (tmp_path / "module").mkdir()
    (tmp_path / "www" / "index.html").write_text("index")
    (tmp_path / "www" / "assets" / "app.js").write_text(TEXT)
    (tmp_path / "www" / ".hidden").write_text("hidden")
    (tmp_path / "module" / "app.js").write_text("module")
    (tmp_path / "module" / "font.woff2").write_bytes(b"\x00font")
    (tmp_path / "secret.txt").write_text("secret")
    os.symlink(tmp_path / "secret.txt", tmp_path / "www" / "link.txt")
    return tmp_path


@pytest.fixture
def files(root):
    files = StaticFiles()
    files.add({"/": root / "www", "/assets/deep": root / "module"})
    return files


def ask(files, path, **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return files.respond(path, Request({"type": "http", "headers": raw}))


def test_the_longest_route_wins(files, root):
    assert files.find("index.html") == root / "www" / "index.html"
    assert files.find("assets/app.js") == root / "www" / "assets" / "app.js"
    assert files.find("assets/deep/app.js") == root / "module" / "app.js"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "assets/../../secret.txt",
        "assets/deep/../../../secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "..\\secret.txt",
        "link.txt",
        ".hidden",
        "assets",
        "",
        "index.html/",
        "index.html\0.js",
        "nothing.js",
    ],
)
def test_nothing_else_is_given(files, path):
    assert files.find(path) is None
    assert ask(files, path) is None


def test_text_is_compressed_for_who_takes_it(files):
    answer = ask(files, "assets/app.js", accept_encoding="gzip, br")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body).decode() == TEXT
    assert len(answer.body) < len(TEXT) / 5
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "content-encoding" not in ask(files, "assets/app.js").headers
    font = ask(files, "assets/deep/font.woff2", accept_encoding="gzip")
    assert "content-encoding" not in font.headers
    assert font.headers["content-type"] == "font/woff2"


def test_what_has_not_changed_is_not_sent_again_and_what_has_is(files, root):
    first = ask(files, "assets/app.js", accept_encoding="gzip")
    tag = first.headers["etag"]
    again = ask(files, "assets/app.js", accept_encoding="gzip", if_none_match=f'"other", {tag}')
    assert (again.status_code, again.body) == (304, b"")
    assert ask(files, "assets/app.js", if_none_match=tag).status_code == 200  # the other form of the file
    (root / "www" / "assets" / "app.js").write_text("changed")
    changed = ask(files, "assets/app.js", accept_encoding="gzip", if_none_match=tag)
    assert gzip.decompress(changed.body) == b"changed"


def test_what_is_kept_in_memory_is_bounded(root):
    files = StaticFiles(keep_bytes=100)
    files.add({"": root / "www"})
    for i in range(10):
        (root / "www" / f"{i}.js").write_text(TEXT + str(i))
        ask(files, f"{i}.js", accept_encoding="gzip")
    assert sum(map(len, files._compressed.values())) <= 100 or len(files._compressed) == 1
