"""What ``socket-site audit`` adds when it is asked to: the empirical audit of the code, and an attack on what left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress


@dataclass(frozen=True)
class Attack:
    """Folders of images that a job has not used, and which job to attack (:mod:`client.attack_report`)."""

    others_tr: Path | None = None
    others_ti_rgb: Path | None = None
    others_ti_target: Path | None = None
    job: str = ""
    figure: Path | None = None

    @property
    def asked(self) -> bool:
        """Whether any folder was given."""
        return any((self.others_tr, self.others_ti_rgb, self.others_ti_target))


def empirical() -> tuple[dict[str, Any], list[str]]:
    """The code's own steps with canaries, right and with faults; as plain values with ``ok``, and in lines."""
    from socket_core.privacy.faults import lines, self_test

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("empirical audit", total=None)
        found = self_test(on_step=lambda run, done, of: bar.update(task, description=run, completed=done, total=of))
    section = found.as_dict() | {"ok": not found.right.leaks and not found.missed}
    return section, ["empirical audit of the code, with canaries", *lines(found)]


def membership(site_file: Path, attack: Attack) -> tuple[dict[str, Any], list[str]]:
    """What an attacker who saw this site's updates could tell; as plain values, and in lines.

    Raises:
        ConfigError: If folders are missing.
        DataError: If nothing was kept of what was sent.
    """
    from client.attack_report import attack_deployed, lines
    from client.roc_figure import draw_found

    found = attack_deployed(
        site_file,
        others_tr=attack.others_tr,
        others_ti_rgb=attack.others_ti_rgb,
        others_ti_target=attack.others_ti_target,
        job=attack.job,
    )
    if attack.figure is not None:
        draw_found(attack.figure, found)
    return found, ["membership attack on what was sent", *lines(found)]
