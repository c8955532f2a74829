"""Commands about recorded sessions: `nmri3d sessions list | show | export | import | replay | delete`.

Convention. Sessions are those of the user's data folder, where the page and the server record; `--folder` names another, as
does NMRI3D_SESSIONS.

Left out: recording, which the page and the server do.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmri3d.cli.common import DeviceOption, DtypeOption, JsonOption, RevisionOption, app, showing_progress
from nmri3d.errors import InputError, MachineError

if TYPE_CHECKING:
    from nmri3d.service.sessions import SessionEvent, SessionStore

sessions = typer.Typer(
    help="Recorded sessions: look at them, give them away, measure them again.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sessions, name="sessions")

IdArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session, as `list` prints it.")]
FolderOption = Annotated[Path | None, typer.Option(help="Folder of the sessions; by default the user's own.")]


@sessions.command("list")
def list_sessions(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List all recorded sessions, the last changed first."""
    found = _store(folder).list()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    if not found:
        print("no sessions are recorded", file=sys.stderr)
    from nmri3d.models.budget import human_bytes

    for one in found:
        events = f"{one.n_events} event{'' if one.n_events == 1 else 's'}"
        size = human_bytes(one.n_bytes)
        print(
            f"{one.id}  {_time(one.changed)}  {events:>12}  {size:>8}  {_printable(one.model_id)}  {one.title}".rstrip()
        )


@sessions.command()
def show(session_id: IdArgument, folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Show the events of a session, one a line."""
    session = _store(folder).open(session_id)
    if as_json:
        about = {name: getattr(session, name) for name in ("id", "title", "created", "model_id", "damaged", "edits")}
        print(json.dumps({**about, "events": [asdict(event) for event in session.events]}, indent=1))
        return
    print(f"{session.title or 'without a title'}, made {_time(session.created)}")
    for event in session.events:
        print(f"{event.number:>5}  {_time(event.at)}  {event.kind:<8}  {_words(event)}")
    if session.damaged:
        print(session.damaged, file=sys.stderr)


@sessions.command()
def export(
    session_id: IdArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; by default SESSION.zip here.")] = None,
    folder: FolderOption = None,
) -> None:
    """Write a session with all its results into one zip file."""
    from nmri3d.files import written_whole

    path = out or Path(f"{session_id}.zip")
    store = _store(folder)
    store.open(session_id)  # a wrong name is told before a file is begun
    try:
        with written_whole(path) as file:
            store.export_to(session_id, file)
    except OSError as error:
        raise MachineError(f"{path} cannot be written ({error.strerror}); name another file with --out") from error
    print(path)


@sessions.command("import")
def import_session(
    file: Annotated[Path, typer.Argument(help="A file that `export` wrote.")], folder: FolderOption = None
) -> None:
    """Take in a session that was exported; prints its new id."""
    try:
        with open(file, "rb") as content:
            session = _store(folder).import_(content)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}); name a file that `sessions export` wrote"
        ) from error
    print(session.id)


@sessions.command()
def replay(
    session_id: IdArgument,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model to measure on; by default the one that was recorded.")
    ] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    revision: RevisionOption = None,
) -> None:
    """Measure everything again that a session measured, and compare number by number. Exit code 1 where something differs."""
    session = _store(folder).open(session_id)
    name = model or session.model_id
    if not name:
        raise InputError("the session does not say which model it is about; name one with --model")
    with showing_progress() as progress:
        from nmri3d.models.progress import part
        from nmri3d.service import Service
        from nmri3d.service.replay import replay as run

        service = Service()
        try:
            loading = part(progress, 0.0, 0.2)
            service.load(name, device=device, dtype=dtype, revision=revision, progress=loading)
            replayed = run(service, session, part(progress, 0.2, 1.0))
        finally:
            service.close()
    if as_json:
        print(json.dumps([asdict(one) for one in replayed], indent=1))
    else:
        for one in replayed:
            print(f"{one.number:>5}  {one.kind:<8}  {one.state:<8}  {one.reason}".rstrip())
        states = [one.state for one in replayed]
        print(f"{states.count('equal')} equal, {states.count('differs')} differ, {states.count('skipped')} skipped")
    if any(one.state == "differs" for one in replayed):
        raise typer.Exit(1)


@sessions.command()
def delete(
    session_id: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    folder: FolderOption = None,
) -> None:
    """Delete a session with all that it holds."""
    store = _store(folder)
    session = store.open(session_id)
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("a session that is deleted is gone; pass --yes to delete it")
        events = f"{len(session.events)} events"
        if not typer.confirm(f"Delete {session.title or session_id} with its {events}?", default=False, err=True):
            raise typer.Exit(1)
    store.delete(session_id)


def _store(folder: Path | None) -> SessionStore:
    from nmri3d.service.sessions import SessionStore

    return SessionStore(folder)


def _time(stamp: str) -> str:
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _words(event: SessionEvent) -> str:
    """An event's data on one line, the long ones cut."""
    named: dict[str, Any] = {name: value for name, value in event.data.items() if value not in (None, {}, [])}
    text = _printable(", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in named.items()))
    return text if len(text) <= 120 else text[:119] + "…"


def _printable(text: str) -> str:
    """A text that may come from another machine, without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
