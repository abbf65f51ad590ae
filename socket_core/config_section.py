"""What all sections of configuration files share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What experiments and sites may be called: a plain word, safe in paths, logs and tables."""


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no NaN or infinity."""

    # Infinity and NaN would become null in JSON, and the sites would refuse the experiment.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
