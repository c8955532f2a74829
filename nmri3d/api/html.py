"""Plain HTML pages of the server itself: refusals, notices, the API's list. One style, no script, nothing from elsewhere.

Convention. Texts are escaped here, bodies are made by the caller from escaped parts. Contrast is at least 4.5 : 1.

Left out: the application's page, which is `nmri3d.app`.
"""

from __future__ import annotations

from html import escape

_STYLE = """
:root { color-scheme: dark }
body { margin: 0; min-height: 100vh; background: #0a0c10; color: #aabbcc;
       font: 14px/1.6 'JetBrains Mono', 'Fira Code', ui-monospace, 'Courier New', monospace }
main { max-width: 44rem; margin: 0 auto; padding: 12vh 1.5rem 4rem }
main.wide { padding-top: 3rem }
.brand { color: #66aa88; font-size: 11px; letter-spacing: .12em; text-transform: uppercase; margin: 0 0 2rem }
.brand::before { content: '\\25CF'; color: #00ffaa; margin-right: .6em }
h1 { color: #e0e6ea; font-size: 20px; font-weight: 700; margin: 0 0 1rem }
h2 { color: #66aa88; font-size: 14px; margin: 2rem 0 .25rem }
p { margin: 0 0 1rem }
a { color: #00ffaa }
code, pre { background: #12151c; border: 1px solid rgba(100, 170, 136, .25); border-radius: 3px; color: #d5e2ea }
code { padding: .1em .4em } pre { padding: .8em 1em; overflow-x: auto }
.status { color: #8a97a6; font-size: 12px; border-top: 1px solid rgba(100, 170, 136, .25); padding-top: 1rem; margin-top: 2rem }
"""


def page(title: str, body: str, *, wide: bool = False, refresh: str = "") -> str:
    """A whole HTML page. `body` is HTML; `refresh` an address to go to at once."""
    goto = f'<meta http-equiv="refresh" content="0; url={escape(refresh)}">' if refresh else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{goto}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} | Neural MRI 3D</title><style>{_STYLE}</style></head><body>"
        f'<main{" class=wide" if wide else ""}><p class="brand">Neural MRI 3D</p><h1>{escape(title)}</h1>{body}</main>'
        "</body></html>"
    )


def notice(status: int, title: str, *paragraphs: str) -> str:
    """A page that says one thing in words. The paragraphs are text; what stands in backquotes is shown as code."""
    body = "".join(f"<p>{_with_code(text)}</p>" for text in paragraphs)
    return page(title, f'{body}<p class="status">HTTP {status}</p>')


def _with_code(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
