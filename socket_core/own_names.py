"""Methods and readers that a program adds to the product's own, by name.

Configuration knows their names without loading them: it is read where there is no PyTorch. They live in this process
alone. Over Flower sites run in other processes and on other machines, which know only what is in the package:
``docs/add-a-method.md``.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator

from socket_core.config_section import NAME

METHODS: set[str] = set()
READERS: set[str] = set()


def or_own(names: set[str]) -> tuple[WrapValidator, PlainSerializer]:
    """For an ``Annotated`` literal: these names are right too, as many as there are when a file is read."""

    def check(value: Any, built_in: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, str) and value in names else built_in(value)

    return WrapValidator(check), PlainSerializer(str, return_type=str)


def add(name: Any, value: Any, into: dict[str, Any], names: set[str]) -> str:
    """What is wrong with adding it, empty if it was added.

    One's own may be replaced, as a cell of a notebook does that runs again; what the product brings may not.
    """
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        return f"expected a plain word as name, found {name!r}"
    if name in into and name not in names:
        return f"{name!r} is part of the product"
    into[name] = value
    names.add(name)
    return ""
