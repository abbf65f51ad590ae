"""How many processes a machine has cores and memory for."""

from __future__ import annotations

import math
from pathlib import Path

from server.plan import cores
from socket_core.checks_machine import available_memory
from socket_core.config import Experiment

MIB = 2**20
PROCESS = 700 * MIB
"""Resident size of a process that has loaded everything and adapts a small network: 709 MiB measured on a CPU."""
RESERVE = 500 * MIB
"""Left to everything else."""


def memory_of_worker(experiment: Experiment) -> int:
    """Bytes that one process needs at most, roughly: PyTorch, all images twice, and what a step keeps."""
    return PROCESS + 2 * images_bytes(experiment) + step_bytes(experiment)


def workers_for(experiment: Experiment, available: int | None = None) -> int:
    """Processes side by side: one a core, and no more than fit into memory; always one.

    Args:
        experiment: What each of them runs.
        available: Bytes of memory; default: what the machine has free.
    """
    free = available if available is not None else free_memory()
    if free is None:
        return cores()
    return max(1, min(cores(), (free - RESERVE) // memory_of_worker(experiment)))


def free_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that new processes can have, of the machine and of the container; None where nobody says."""
    try:
        free = available_memory()
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit, used = ((cgroup / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def images_bytes(experiment: Experiment) -> int:
    """Bytes of the decoded images, as far as the experiment says how many there are."""
    data, counts = experiment.data, experiment.data.scenes
    if data.kind != "scenes":
        return 0
    target = 2 if data.modality == "depth" else 1
    rgb = counts.source_train + counts.source_test + counts.ti
    return data.size**2 * (3 * rgb + target * (counts.target_train + counts.target_test + counts.ti))


def step_bytes(experiment: Experiment) -> int:
    """What a step keeps of a batch for its backward pass: about a hundred values a pixel of a small network."""
    return math.ceil(2 * experiment.method.batch * experiment.data.size**2 * 100 * 4)
