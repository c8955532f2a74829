"""A file is there whole or not at all."""

import os

import pytest

from nmri3d.files import written_whole


def test_a_block_that_ends_well_puts_the_file_in_its_place(tmp_path):
    target = tmp_path / "new" / "file.bin"
    with written_whole(target) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["file.bin"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), written_whole(target) as file:
        file.write(b"half" + bytes(1 // 0))
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with written_whole(tmp_path / "written") as file:
        file.write(b"x")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode
