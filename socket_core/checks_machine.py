"""Checks of the machine, for owners and sites alike: device, memory, clock, disk, private files."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from socket_core.checks import Check, failed, ok, warning
from socket_core.errors import MethodError

WRITTEN = datetime(2026, 11, 1, tzinfo=UTC)
"""When this version was written, at the earliest: a clock before it is wrong. Raise it with each version."""

GIB = 2**30
_GPU_NEED, _MEMORY_NEED = 2 * GIB, 2 * GIB


@dataclass(frozen=True)
class Gpu:
    """A CUDA device: its name, and bytes of memory that nobody uses."""

    name: str
    free: int


def gpus() -> list[Gpu]:
    """CUDA devices that PyTorch sees."""
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    return [Gpu(torch.cuda.get_device_name(i), int(torch.cuda.mem_get_info(i)[0])) for i in range(count)]


def check_device(asked: str, found: Sequence[Gpu]) -> Check:
    """Whether the device asked for (``auto``, ``cpu``, ``cuda``, ``cuda:N``) is there and has room."""
    name = "device"
    if asked == "cpu":
        return ok(name, "the CPU, as asked for")
    number = int(asked.partition(":")[2] or 0)
    if len(found) <= number:
        what = f"PyTorch sees {len(found)} CUDA devices" if found else "PyTorch sees no CUDA device"
        remedy = "look at nvidia-smi, install the driver and a PyTorch with CUDA, or set device: cpu"
        if asked == "auto":
            return warning(name, f"{what}: everything runs on the CPU", remedy)
        return failed(name, f"{asked} asked for, but {what}", remedy, MethodError.exit_code)
    gpu = found[number]
    said = f"cuda:{number} {gpu.name}, {gpu.free / GIB:.1f} GiB free"
    if gpu.free < _GPU_NEED:
        return warning(name, said, "end other processes on it (nvidia-smi lists them), or lower method.batch")
    return ok(name, said)


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that new processes can have, as Linux says."""
    lines = meminfo.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def check_memory(available: int, need: int = 0) -> Check:
    """Whether the images of a run, ``need`` bytes, fit into memory along with everything else."""
    said = f"{available / GIB:.1f} GiB available"
    said += f", images take {need / GIB:.2f}" if need else ""
    remedy = "end other processes, use smaller images (data.size), or a machine with more memory"
    if need > available:
        return failed("memory", said, remedy)
    return ok("memory", said) if available >= need + _MEMORY_NEED else warning("memory", said, remedy)


def check_clock(now: datetime, newest: datetime | None) -> Check:
    """Whether the clock can be right: after this version was written, not before what was written down last."""
    said = now.astimezone(UTC).isoformat(timespec="seconds")
    remedy = "set the clock (timedatectl set-ntp true): certificates and journals depend on it"
    if now < WRITTEN:
        return failed("clock", f"{said}, before this version was written ({WRITTEN:%Y-%m-%d})", remedy)
    if newest is not None and now < newest:
        return failed("clock", f"{said}, before the newest entry of ledger or journal ({newest.isoformat()})", remedy)
    return ok("clock", said)


def check_disk(folder: Path, need: int) -> Check:
    """Whether ``need`` bytes have room where ``folder`` is, or will be."""
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    said = f"{free / GIB:.1f} GiB free, about {need / GIB:.2f} needed"
    if free < need:
        return failed("disk", said, "free space, or put home on another disk")
    return ok("disk", said) if free >= need + GIB else warning("disk", said, "free space before it runs out")


def check_writable(folder: Path) -> Check:
    """Whether files can be made in ``folder``, or in what it will be made in."""
    there = folder
    while not there.exists():
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ok("home", "writable" if there == folder else "not there yet, can be made")
    return failed("home", "cannot be written to", f"give the user of this command the folder {folder}")


def check_private(files: Iterable[Path], name: str = "key permissions", absent: str = "correct the path") -> Check:
    """Whether nobody but its owner can read a private file; ``absent`` is what to do where one is not there."""
    files = list(files)
    if missing := [path for path in files if not path.is_file()]:
        return failed(name, f"{missing[0].name} is not there", absent)
    open_to = [path for path in files if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if open_to:
        what = f"group or others can access {', '.join(path.name for path in open_to)}"
        return failed(
            name, what, f"chmod 600 {' '.join(map(str, open_to))}; make new keys if others may have read them"
        )
    return ok(name, f"{', '.join(p.name for p in files)} for their owner alone" if files else "no private key here yet")


def private_keys(folders: Iterable[Path]) -> list[Path]:
    """Files directly in these folders that begin as private keys do, whatever their names."""
    found = []
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if re.match(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", file.read(64)):
                        found.append(path)
    return found
