"""HTTP over the service: `create_app` makes the FastAPI application, `Security` says who may call it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"application": ["create_app"], "security": ["Guard", "Security"]}
)
