"""A session as one zip file, to be given away; and the way back, which trusts nothing.

The file holds `session.json`, `events.jsonl` and `results/<sha256>.npz`, the results that events name and no others.

Convention. Nothing of a file that comes in is unpacked by its own name, and nothing is kept before all was proved: names,
sizes, every checksum, every event, and that every result opens without pickle.

Left out: where sessions are kept.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nmri3d.errors import InputError
from nmri3d.models.budget import human_bytes
from nmri3d.service.sessions.card import CARD_NAME, Card
from nmri3d.service.sessions.log_file import LOG_NAME, LogContent, line_of, parse_log
from nmri3d.service.sessions.result_files import (
    RESULT_FOLDER,
    is_result_name,
    open_result,
    result_name,
    result_path,
    sync_folder,
    write_durably,
)
from nmri3d.service.sessions.room import Room

if TYPE_CHECKING:
    from nmri3d.service.sessions.session import Session

MOST_ENTRIES = 100_000

MOST_GROWTH = 200
"""How many times larger a file's content may be than the file."""

_SMALL = 2**20


def export_session(session: Session, file: BinaryIO) -> None:
    """Write a session's good events and their results. Raises InputError where a result is damaged."""
    events = session.events
    card = Card(session.title, session.created, session.model_id)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(CARD_NAME), card.to_bytes())
        log = zipfile.ZipInfo(LOG_NAME)
        archive.writestr(log, b"".join(map(line_of, events)), zipfile.ZIP_DEFLATED)
        written = {""}
        for event in events:
            if event.result not in written:
                written.add(event.result)
                content = session.result_bytes(event)
                assert content is not None
                archive.writestr(zipfile.ZipInfo(f"{RESULT_FOLDER}/{event.result}.npz"), content)


def unpack_session(file: BinaryIO, folder: Path, room: Room) -> None:
    """Put a session into an empty folder. Raises InputError for what `export_session` did not write, MachineError, OSError."""
    try:
        with zipfile.ZipFile(file) as archive:
            _unpack(archive, _size_of(file), folder, room)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"this is not a session that nmri3d exported, or it is damaged ({error})") from error


def _unpack(archive: zipfile.ZipFile, file_size: int, folder: Path, room: Room) -> None:
    entries = _checked_entries(archive, file_size, room)
    card = Card.parse(_read(archive, entries[CARD_NAME]))
    log = _read(archive, entries[LOG_NAME])
    content = _whole_log(log)
    results = [name for name in entries if name not in (CARD_NAME, LOG_NAME)]
    wanted = {f"{RESULT_FOLDER}/{event.result}.npz" for event in content.events if event.result}
    if missing := wanted - set(results):
        raise InputError(f"the session is not whole: {len(missing)} of its results are missing; export it again")
    if set(results) - wanted:
        raise InputError("the file holds results that no event names; export the session again")
    total = sum(entry.file_size for entry in entries.values())
    room.take(total, total, len(log))
    for name in results:
        _unpack_result(archive, entries[name], folder)
    write_durably(folder / LOG_NAME, log)
    models = [event.data["model_id"] for event in content.events if event.kind == "model"]
    Card(card.title, card.created, models[-1] if models else "").write(folder)
    sync_folder(folder)


def _checked_entries(archive: zipfile.ZipFile, file_size: int, room: Room) -> dict[str, zipfile.ZipInfo]:
    """The entries by name: only names that an export has, each once, none a link, and together not too large."""
    infos = archive.infolist()
    if len(infos) > MOST_ENTRIES:
        raise InputError(f"the file holds {len(infos):,} files; a session has {MOST_ENTRIES:,} at most")
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not _is_our_name(info.filename) or info.filename in entries or kind not in (0, stat.S_IFREG):
            raise InputError(f"the file holds {info.filename[:80]!a}, which no exported session has as a file")
        entries[info.filename] = info
    if CARD_NAME not in entries or LOG_NAME not in entries:
        raise InputError(f"this is not an exported session: {CARD_NAME} and {LOG_NAME} are not both in it")
    total = sum(info.file_size for info in infos)
    if total > room.most_session or entries[LOG_NAME].file_size > room.most_log:
        raise InputError(
            f"the session would take {human_bytes(total)}; {human_bytes(room.most_session)} is the most, "
            f"{human_bytes(room.most_log)} of it the log"
        )
    if total > MOST_GROWTH * file_size + _SMALL or entries[CARD_NAME].file_size > _SMALL:
        raise InputError(f"the file would unpack to {human_bytes(total)}, far more than its own size; it is refused")
    return entries


def _is_our_name(name: str) -> bool:
    folder, _, rest = name.partition("/")
    is_result = folder == RESULT_FOLDER and rest.endswith(".npz") and is_result_name(rest.removesuffix(".npz"))
    return name in (CARD_NAME, LOG_NAME) or is_result


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """An entry's content, never more than it says; zipfile proves its CRC."""
    with archive.open(info) as file:
        return file.read()


def _whole_log(log: bytes) -> LogContent:
    content = parse_log(log)
    if content.damaged or content.size != len(log):
        raise InputError(content.damaged or "the last line of the session's log is torn; export the session again")
    return content


def _unpack_result(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    content = _read(archive, info)
    name = info.filename.removeprefix(f"{RESULT_FOLDER}/").removesuffix(".npz")
    if result_name(content) != name:
        raise InputError(f"the checksum of {info.filename} does not fit; export the session again")
    open_result(content)
    write_durably(result_path(folder, name), content)


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, 2)
