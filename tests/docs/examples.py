"""Files of ``docs/examples`` as modules, and what they register taken back afterwards."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from socket_core import own_names
from socket_core.data.readers import READERS
from socket_core.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@contextmanager
def loaded(name: str) -> Iterator[dict[str, Any]]:
    """What an example defines, by name, while it is registered."""
    try:
        spec = importlib.util.spec_from_file_location(f"example_{Path(name).stem}", EXAMPLES / name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield vars(module)
    finally:
        for registry, names in ((METHODS, own_names.METHODS), (READERS, own_names.READERS)):
            for own in names:
                del registry[own]
            names.clear()
