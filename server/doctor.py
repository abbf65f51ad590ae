"""``socket-owner doctor``: machine, experiment, images, keys and releases of a model owner."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from socket_core import checks_machine as machine
from socket_core.checks import Check, Examination, failed, ok
from socket_core.checks_software import examine_experiment, examine_software
from socket_core.config import Experiment
from socket_core.data.survey import survey
from socket_core.errors import DataError, ReleaseError
from socket_core.keys import key_id, load_private_key, load_public_key, short
from socket_core.release import MANIFEST, SIGNATURE, read_release
from socket_core.release_files import read_file
from socket_core.release_fit import check_fits
from socket_core.release_manifest import MAX_MANIFEST_BYTES, SIGNATURE_BYTES, signer_of
from socket_core.run_config import overrides

RUNS = 2**30
"""Bytes that checkpoints and reports of a few runs take."""


def examine(home: Path | None, *, config: Path | None = None, data: str = "") -> Examination:
    """Looks at everything and changes nothing.

    Args:
        home: Folder of keys, releases and runs (``--out`` of training); None: they are not looked at.
        config: An experiment: its images, its device, whether the releases fit.
        data: Folder of images, in place of the experiment's.
    """
    found, now = Examination(), datetime.now(UTC)
    examine_software(found)
    experiment = next(iter(examine_experiment(found, config, overrides(data=data))), None)
    found.run("device", lambda: machine.check_device(experiment.device if experiment else "auto", machine.gpus()))
    found.run("memory", lambda: machine.check_memory(machine.available_memory()))
    found.run("clock", lambda: machine.check_clock(now, None))
    if experiment is not None:
        found.run("images", partial(check_images, experiment))
        found.run("backbone weights", partial(check_weights, experiment))
    if home is not None:
        found.run("home", lambda: machine.check_writable(home))
        found.run("disk", lambda: machine.check_disk(home, RUNS))
        found.run("key permissions", lambda: machine.check_private(machine.private_keys([home, home / "keys"])))
        found.run("keys", partial(check_keys, home / "keys"), after=["key permissions"])
        _releases(found, home, experiment)
    return found


def check_images(experiment: Experiment) -> Check:
    """Whether every image of the data set can be read, and every class of the task has some.

    Raises:
        DataError: If its folder is not what its kind says.
    """
    if experiment.data.kind == "scenes":
        return ok("images", "embedded scenes, rendered when needed")
    found = survey(experiment.data)
    remedy = "socket-site check --data names the files"
    if found.lacking:
        return failed("images", f"none for {', '.join(found.lacking)}", remedy, DataError.exit_code)
    said = f"{len(found.classes)} classes, {found.pairs} pairs, {len(found.skipped)} files that cannot be used"
    if found.skipped and not experiment.data.skip_broken:
        return failed("images", said, f"{remedy}; data.skip_broken leaves them out", DataError.exit_code)
    return ok("images", said)


def check_weights(experiment: Experiment) -> Check:
    """Whether the file that the backbone starts from is there."""
    path = experiment.network.weights
    if not path:
        return ok("backbone weights", "none asked for, training starts from scratch")
    if not Path(path).is_file():
        return failed("backbone weights", "the file is not there", f"put it at {path}, or correct network.weights", 2)
    return ok("backbone weights", Path(path).name)


def check_keys(folder: Path) -> Check:
    """Whether each private key can be read and belongs to the public key beside it.

    Raises:
        ReleaseError: If one cannot be read.
    """
    names = []
    for path in sorted(folder.glob("*.key.pem")):
        public = load_public_key(path.with_name(path.name.replace(".key.pem", ".pub.pem")))
        if key_id(load_private_key(path).public_key()) != key_id(public):
            remedy = "restore both halves from one backup: sites pin the public one"
            return failed("keys", f"{path.name} and its public half are of two pairs", remedy, ReleaseError.exit_code)
        names.append(f"{path.name} {short(key_id(public))}")
    return ok("keys", ", ".join(names) or "none yet; the first training makes them")


def check_release(name: str, folder: Path, keys: list[Ed25519PublicKey], experiment: Experiment | None) -> Check:
    """Whether one of the owner's keys signed a release, its weights are whole, and images are prepared for it as asked.

    Raises:
        ReleaseError: If not.
    """
    if not keys:
        return failed(name, "no public key to check it with", "put the key into keys/", ReleaseError.exit_code)
    signed = read_file(folder / MANIFEST, MAX_MANIFEST_BYTES), read_file(folder / SIGNATURE, SIGNATURE_BYTES)
    info = read_release(folder, signer_of(keys, *signed) or keys[0]).info
    if experiment is not None:
        check_fits(info, experiment, where=folder.name)
    return ok(name, f"{info.backbone}, {len(info.classes)} classes, signature and weights are right")


def _releases(found: Examination, home: Path, experiment: Experiment | None) -> None:
    folders = sorted(path for path in home.glob("release-*") if path.is_dir())
    if not folders:
        found.checks.append(ok("release", "none yet: socket-owner train"))
        return
    keys: list[Ed25519PublicKey] = []

    def read_keys() -> Check:
        keys.extend(load_public_key(path) for path in sorted((home / "keys").glob("*.pub.pem")))
        return ok("public keys", f"{len(keys)}")

    found.run("public keys", read_keys)
    for folder in folders:
        found.run(folder.name, partial(check_release, folder.name, folder, keys, experiment), after=["public keys"])
