"""The page's files for the browser, as a trame module: scripts, style sheet, fonts. No build step.

`main.js` names the scripts; they share the one name `window.nmri3d`, which is also the Vue plug-in.
"""

from pathlib import Path

from nmri3d import __version__

_NAME = f"__nmri3d_{__version__}"

serve = {_NAME: str(Path(__file__).parent.resolve())}
module_scripts = [f"{_NAME}/main.js"]
styles = [
    f"{_NAME}/theme.css",
    f"{_NAME}/measuring.css",
    f"{_NAME}/tracts.css",
    f"{_NAME}/slices.css",
    f"{_NAME}/linked.css",
    f"{_NAME}/neurons.css",
    f"{_NAME}/sessions.css",
]
vue_use = ["window.nmri3d.plugin"]
