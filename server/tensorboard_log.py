"""Rounds of federations as scalars for TensorBoard, from the ``rounds.jsonl`` that each writes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from server.watch import facts_of, look
from socket_core.errors import ConfigError

SUFFIX = ".socket-fl"
"""Ends the names of our event files: only these are replaced."""


def scalars(facts: dict[str, Any]) -> dict[str, float]:
    """What is drawn of a round, by tag: accuracies as shares of 1, bytes, seconds; what was not measured is left out.

    Args:
        facts: Of :func:`server.watch.facts_of`.
    """
    values = {
        "accuracy/mean over sites": facts["accuracy"],
        "accuracy/worst site": facts["worst_site"],
        "sites/answered": len(facts["sites"]),
        "sites/left out": len(facts["left_out"]),
        "bytes/up": facts["bytes_up"],
        "bytes/down": facts["bytes_down"],
        "seconds/training": facts["seconds"],
    }
    return {tag: float(value) for tag, value in values.items() if value is not None}


def write_logs(runs: Path, out: Path) -> list[tuple[Path, int]]:
    """Writes one log folder for each federation below ``runs``, under the same name; earlier ones are replaced.

    Returns:
        The folders, each with its number of rounds.

    Raises:
        ConfigError: If TensorBoard is not installed.
        FederationError: If there is no run.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "event files need the package tensorboard, which is not installed",
            where="socket-owner tensorboard",
            remedy="install the extra: uv pip install 'socket-fl[tensorboard]', in a checkout '.[tensorboard]'",
        )
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import

    written = []
    for run in look(runs):
        folder = out / run.name
        for earlier in folder.glob(f"*{SUFFIX}"):
            earlier.unlink()
        with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
            for record in run.rounds:
                for tag, value in scalars(facts_of(record)).items():
                    writer.add_scalar(tag, value, record["round"])
        written.append((folder, len(run.rounds)))
    return written
