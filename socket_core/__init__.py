"""Source-free cross-modal adaptation in plain PyTorch; knows nothing of federation.

For notebooks: ``from socket_core import load_release, read_images, adapt, evaluate`` (:mod:`socket_core.api`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socket_core.api import Adapted, adapt, evaluate, load_release, raw_size, read_images, read_pairs
    from socket_core.data.types import Images

__all__ = ["Adapted", "Images", "adapt", "evaluate", "load_release", "raw_size", "read_images", "read_pairs"]


def __getattr__(name: str) -> Any:
    """Loads the functions above on first use: most processes that import this package need no PyTorch yet."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from socket_core import api

    return getattr(api, name)
