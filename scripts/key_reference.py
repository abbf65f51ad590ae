"""Write ``docs/keys.md``, the reference of every configuration key, from the models, or check that it is current.

Usage::

    python scripts/key_reference.py            # rewrite docs/keys.md
    python scripts/key_reference.py --check    # exit 1 if it differs
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from client.site_file import SiteFile
from deploy.layout import DeploymentFile
from socket_core.config import Experiment

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "keys.md"
FILES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    (
        "An experiment",
        "`configs/*.yaml`; what the keys are for: [configs/README.md](../configs/README.md).",
        Experiment,
    ),
    ("A site", "`site.yaml`; how it is used: [deploy.md](deploy.md).", SiteFile),
    ("A deployment", "`deployment.yaml`, which `socket-owner init-deployment` writes.", DeploymentFile),
)
HEAD = """# Every key

Made by `scripts/key_reference.py` from the models that read the files; a test fails when this page is not current.
Unknown keys are refused. Where a key is left out, its default holds; *required* keys have none
(in `privacy`, `site_privacy` and `connection`: once the section is there).
"""


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each key of a model and of the sections below it, dotted."""
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section is None:
            yield prefix + name, field
        else:
            listed = "[]" if get_origin(field.annotation) is tuple else ""
            yield from keys(section, f"{prefix}{name}{listed}.")


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a type holds, alone, in a list, or if it may be left out; None for a plain value."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def kind(field: FieldInfo) -> str:
    """Type and bounds in words."""
    text = re.sub(r"\b(?:pathlib\.|typing\.)", "", _name(field.annotation))
    bounds = [
        f"{sign} {getattr(one, attribute):g}"
        for one in field.metadata
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if getattr(one, attribute, None) is not None
    ]
    return ", ".join([text, *bounds])


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _name(get_args(annotation)[0])
    arguments = [one for one in get_args(annotation) if one is not type(None)]
    if str(get_origin(annotation)) == "typing.Literal":
        return " or ".join(str(value) for value in arguments)
    if get_origin(annotation) is tuple:
        return "list"
    if arguments and get_origin(annotation) is not None and not isinstance(get_origin(annotation), type):
        return " or ".join(_name(one) for one in arguments)
    if arguments:  # X | None
        return " or ".join(dict.fromkeys(_name(one) for one in arguments))
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    name = getattr(annotation, "__name__", str(annotation))
    return words.get(name, name)


def default(field: FieldInfo) -> str:
    """As one would write it in YAML."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "*required*"
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(one) for one in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def page() -> str:
    """The whole page."""
    out = [HEAD]
    for title, text, model in FILES:
        out.append(f"\n## {title}\n\n{text}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n")
        for key, field in keys(model):
            cells = (f"`{key}`", kind(field), default(field), field.description or "")
            out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks."""
    parser = argparse.ArgumentParser(description="The reference of every configuration key.")
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args(arguments).check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE.relative_to(ROOT)} is not current: python scripts/key_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
