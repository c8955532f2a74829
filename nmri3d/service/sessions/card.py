"""What a session is called: `session.json` in its folder, which is there as long as the session is.

Left out: what happened in it, which is the log's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from unicodedata import category

from nmri3d.errors import InputError
from nmri3d.service.sessions.event import json_text
from nmri3d.service.sessions.result_files import write_durably

CARD_NAME = "session.json"
FORMAT = "nmri3d-session-1"

MOST_TITLE = 200
"""Characters of a title."""


@dataclass(frozen=True)
class Card:
    """A session's title, when it was made (ISO 8601 with offset), and the model that it is about now ("": none yet)."""

    title: str
    created: str
    model_id: str = ""

    def to_bytes(self) -> bytes:
        """The content of its file."""
        return json_text({"format": FORMAT, **asdict(self)}).encode() + b"\n"

    def write(self, folder: Path) -> None:
        """Write it, and bring it onto the disk. Raises OSError."""
        write_durably(folder / CARD_NAME, self.to_bytes())

    @classmethod
    def parse(cls, content: bytes) -> Card:
        """Read what `to_bytes` gave. Raises InputError for anything else."""
        try:
            record = json.loads(content)
            if record.pop("format") != FORMAT:
                raise ValueError
            card = cls(**record)
            if datetime.fromisoformat(card.created).tzinfo is None or not isinstance(card.model_id, str):
                raise ValueError
            card.to_bytes()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(f"{CARD_NAME} is damaged, or of another version of nmri3d") from None
        return cls(valid_title(card.title), card.created, card.model_id)

    @classmethod
    def read(cls, folder: Path) -> Card:
        """The card of a session's folder; where it is damaged, one without a title. Raises OSError."""
        path = folder / CARD_NAME
        try:
            return cls.parse(path.read_bytes())
        except InputError:
            made = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
            return cls("", made.isoformat(timespec="milliseconds"))


def valid_title(title: str) -> str:
    """A title without blanks around it. Raises InputError for one that is too long or cannot be written on one line."""
    title = title.strip() if isinstance(title, str) else title
    if not isinstance(title, str) or len(title) > MOST_TITLE:
        raise InputError(f"a session's title is a text of {MOST_TITLE} characters at most")
    if any(category(letter) in ("Cc", "Cs") for letter in title):
        raise InputError("a session's title is one line of text, without control characters")
    return title
