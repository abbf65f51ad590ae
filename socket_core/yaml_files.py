"""YAML files and what is wrong with them, in one sentence that names file, key and remedy."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from socket_core.errors import ConfigError


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; an empty file has none.

    Raises:
        ConfigError: If it cannot be read, is not YAML, or holds something else.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read it ({error.strerror})", where=str(path), remedy="give an existing .yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML: {error}", where=str(path), remedy="fix the line named") from None
    except RecursionError:  # libyaml's parser, which is faster, would end the process here
        raise ConfigError("lists or sections nested too deeply", where=str(path), remedy="write it flat") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(
            f"expected keys and values, found {type(raw).__name__}", where=str(path), remedy="write key: value lines"
        )
    return raw


def explain(error: ValidationError, model: type[BaseModel], *, where: str, see: str) -> ConfigError:
    """The first thing that pydantic found wrong; an unknown key is answered with the nearest known one.

    Args:
        error: From validating ``model``.
        model: The root model.
        where: The file, or what stands for it.
        see: Where the keys are described.
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return ConfigError(f"unknown key {key!r}", where=where, remedy=f"{hint}known here: {', '.join(known)}")
    found = "" if first["type"] == "missing" else f", found {first['input']!r}"
    return ConfigError(f"key {key!r}: {first['msg']}{found}", where=where, remedy=f"see {see}")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    section = model
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        options = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        section = options[0]
    return sorted(section.model_fields)
