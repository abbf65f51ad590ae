"""Checks of what a site holds: images, policy, releases, ledgers, journal."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from client import policy
from client.journal import Journal
from client.releases import find_release, read_pinned
from client.site import Site
from client.site_file import SiteFile
from socket_core.checks import Check, failed, ok, warning
from socket_core.config import Experiment
from socket_core.data.decode import Stored, decode
from socket_core.data.files_of import by_name, files_below
from socket_core.data.types import Modality
from socket_core.errors import DataError, PrivacyError
from socket_core.privacy.chain import Chain
from socket_core.privacy.ledger import Ledger
from socket_core.release_fit import check_fits
from socket_core.stages import federated_rounds

NAMED = 20
"""Files that are named at most, where names are asked for."""

_DATA = DataError.exit_code
_SEE = "mend or remove them; --name-files prints their names"


def check_task_images(file: SiteFile, *, name_files: bool = False) -> Check:
    """Whether every task-relevant image can be read; all have one bit depth, and a full scale where it is needed."""
    name, files = "TR images", files_below([file.tr])
    sizes, bits, broken = _read(files, file.modality, Stored(rotated=file.rotated))
    if broken:
        return failed(name, f"{len(broken)} of {len(files)} cannot be read{_named(broken, name_files)}", _SEE, _DATA)
    if fault := _bits_fault(name, bits, file):
        return fault
    kinds = set(sizes.values())
    said = f"{len(files)} images, {next(iter(bits))} bits"
    if len(files) < 2:
        return failed(name, said, "add images: BatchNorm needs at least 2", _DATA)
    if len(kinds) > 1:
        return warning(name, f"{said}, of {len(kinds)} sizes", "fine if meant so; export then needs --image")
    return ok(name, f"{said}, {kinds.pop()}")


def check_pairs(file: SiteFile, *, name_files: bool = False) -> Check:
    """Whether the task-irrelevant pairs can be read, have both halves, and these have one size."""
    name = "TI pairs"
    halves = [by_name(folder, files_below([folder])) for folder in (file.ti_rgb, file.ti_target)]
    alone = [half.get(key) or other[key] for half, other in [halves] for key in sorted(half.keys() ^ other.keys())]
    if alone:
        return failed(name, f"files without other half: {len(alone)}{_named(alone, name_files)}", _SEE, _DATA)
    rgb = _read(list(halves[0].values()), "rgb", Stored())
    target = _read(list(halves[1].values()), file.modality, Stored(rotated=file.rotated))
    if broken := rgb[2] + target[2]:
        return failed(name, f"files that cannot be read: {len(broken)}{_named(broken, name_files)}", _SEE, _DATA)
    apart = [path for key, path in halves[0].items() if rgb[0][path] != target[0][halves[1][key]]]
    if apart:
        said = f"pairs whose halves differ in size: {len(apart)}{_named(apart, name_files)}"
        return failed(name, said, "register the two images to each other (same crop, same size)", _DATA)
    if fault := _bits_fault(name, target[1], file):
        return fault
    return ok(name, f"{len(rgb[0])} pairs, {next(iter(target[1]))} bits")


def check_policy(site: Site, experiment: Experiment | None) -> Check:
    """Whether the policy can be read and, given a run, allows it.

    Raises:
        PolicyError: If it refuses the run.
    """
    methods = ", ".join(site.policy.methods)
    if experiment is None:
        return ok("policy", f"allows the methods {methods}; --config says whether a run would be allowed")
    policy.check(site.policy, experiment, federated_rounds(experiment))
    return ok("policy", f"would allow {experiment.method.name} of {experiment.name}")


def check_release(name: str, site: Site, folder: Path, experiment: Experiment | None) -> Check:
    """Whether a pinned key signed a release, its weights are whole, and images are prepared for it as asked.

    Raises:
        ReleaseError: If not.
    """
    held = folder.parent == site.store.releases
    info = (find_release(site, folder.name) if held else read_pinned(site, folder)).info
    if experiment is not None:
        check_fits(info, experiment, where=folder.name)
    return ok(name, f"{info.name}, {info.backbone}, {len(info.classes)} classes, signature and weights are right")


def check_ledger(name: str, path: Path) -> Check:
    """Whether the chain of a ledger is whole.

    Raises:
        PrivacyError: If it is not.
    """
    if not Chain.begun(path):
        return ok(name, "none yet; the first run with DP starts one")
    return ok(name, f"{len(Ledger(path, create=False).charges())} charges, chain intact")


def check_journal(path: Path) -> Check:
    """Whether the chain of the journal of what left is whole.

    Raises:
        PrivacyError: If it is not.
    """
    if not Chain.begun(path):
        return ok("egress journal", "none yet; the first message that leaves starts one")
    return ok("egress journal", f"{len(Journal(path, create=False).read())} messages, chain intact")


def check_ledger_writable(path: Path) -> Check:
    """Whether an entry could be written now; none is."""
    name = "ledger writable"
    if not path.exists():
        return Check(name, "skipped", "no ledger yet")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=0.5)) as database:
            database.isolation_level = None
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return warning(name, "another process is writing", "wait for it, then look again")
        remedy = "give the SuperNode's user the ledger's three files and their folder"
        return failed(name, f"cannot be written ({error})", remedy, PrivacyError.exit_code)
    return ok(name, "yes")


def newest_entry(site: Site) -> datetime | None:
    """When ledgers or egress journal were last written, by their own entries; None where nothing was."""
    times = []
    for path in (site.ledger_file, site.site_ledger_file):
        times += [charge.time for charge in Ledger(path, create=False).charges()] if Chain.begun(path) else []
    if Chain.begun(site.journal_file):
        times += [str(entry["time"]) for entry in Journal(site.journal_file, create=False).read()]
    return max(map(datetime.fromisoformat, times), default=None)


def decoded_bytes(file: SiteFile, size: int) -> int:
    """What the decoded images take, in memory and again in the cache on disk; 16-bit targets are counted on."""
    counts = [sum(p.is_file() for p in folder.rglob("*")) for folder in (file.tr, file.ti_target, file.ti_rgb)]
    return size * size * (2 * counts[0] + 2 * counts[1] + 3 * counts[2])


_Sizes = dict[Path, str]


def _read(files: Sequence[Path], kind: Modality, stored: Stored) -> tuple[_Sizes, Counter[int], list[Path]]:
    """Size of each file, how many have which bits, and the files that cannot be read."""
    sizes: _Sizes = {}
    bits: Counter[int] = Counter()
    broken = []
    for path in files:
        try:
            pixels = decode(path, kind, stored)
        except DataError:
            broken.append(path)
            continue
        sizes[path] = f"{pixels.shape[1]}x{pixels.shape[0]}"
        bits[pixels.dtype.itemsize * 8] += 1
    return sizes, bits, broken


def _bits_fault(name: str, bits: Counter[int], file: SiteFile) -> Check | None:
    if len(bits) > 1:
        said = " and ".join(f"{count} with {depth} bits" for depth, count in sorted(bits.items()))
        return failed(name, said, "store all with one bit depth and unit", _DATA)
    if 16 in bits and file.full_scale is None:
        remedy = "set full_scale in site.yaml, for example 10000 for depth in millimetres up to 10 m"
        return failed(name, "16 bits, and no pixel value that stands for 1.0", remedy, _DATA)
    return None


def _named(files: Sequence[Path], name_files: bool) -> str:
    """Names are for this terminal alone: reports are sent around."""
    return f" ({', '.join(map(str, files[:NAMED]))})" if name_files else ""
