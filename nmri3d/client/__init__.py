"""The Python client: `nmri3d.connect(url)` gives the model of a running server, measured there, with results as here.

No torch and no server is imported for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"remote": ["RemoteModel", "connect"], "transport": ["Transport"]}
)
