"""The page's markup, one module and its HTML files a panel. Each has `build()`, called inside an open trame layout.

Convention. A panel is one HTML element with a Vue template in it. It reads trame's state by name (state.py), and what
the browser keeps to itself through `nmri` (web/store.js); it sends with `nmri.trigger(name, ...)`.
"""

from pathlib import Path


def template(name: str) -> str:
    """The Vue template `name`.html of this folder."""
    return Path(__file__).with_name(f"{name}.html").read_text(encoding="utf-8")
