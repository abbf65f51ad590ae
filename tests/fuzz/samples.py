"""Sound input for each decoder, made once, and a folder to write damaged copies into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from client.evidence import export
from client.journal import Journal
from client.site import open_deployed
from client.verification import verify
from server.checkpoint import Identity, write_checkpoint
from server.state import ServerState
from socket_core.config import ListFiles, load_experiment
from socket_core.keys import create_keypair
from socket_core.privacy.accounting import Event
from socket_core.privacy.ledger import Ledger, Limits
from socket_core.release import pack_release, write_release
from tests.client.builders import Deployment
from tests.core.disk_builders import colour
from tests.core.export_builders import adapted
from tests.core.release_builders import ARGS, KEY, make_network

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LISTS = ("source_train", "source_test", "target_train", "target_test", "ti_rgb", "ti_target")
Book = type[Ledger] | type[Journal]

DEPLOYMENT = """name: plants
host: owner.example
bind: 0.0.0.0
port: 9092
control_port: 9093
sites: [north, south]
home: runs
"""


class Samples:
    """All of it below one empty folder.

    Attributes:
        folder: Where damaged copies may be written.
        release: Files of a signed release, by name.
        written: What each book says while it is whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "damaged"
        self.folder.mkdir()
        write_release(folder / "release", make_network(), KEY, **ARGS)
        self.release = pack_release(folder / "release")
        self.experiment = (CONFIGS / "privacy" / "socket-epsilon-3.yaml").read_bytes()
        for name in ("demo.yaml",):
            (folder / name).write_bytes((CONFIGS / name).read_bytes())
        experiment = load_experiment(CONFIGS / "nyuv2.yaml", {"data.root": str(folder)})
        self.experiment_json = experiment.model_dump_json().encode()
        self.deployment = DEPLOYMENT.encode()
        self._make_site(folder)
        self._make_lists(folder / "damaged")
        self.identity = Identity("e" * 64, "r" * 64)
        state = ServerState("job-1", 3, np.arange(5, dtype=np.float32))
        write_checkpoint(folder / "c.safetensors", state, self.identity, {"round": 3, "sites": ["north"]})
        self.checkpointed = state.round, state.parameters.tobytes()
        self.checkpoint = (folder / "c.safetensors").read_bytes()
        self.adapted = adapted(folder)[0].read_bytes()
        self._books: dict[Book, Path] = {}
        self.written: dict[Book, list[Any]] = {}
        self._make_books(self.folder)

    def _make_site(self, folder: Path) -> None:
        create_keypair(folder, "owner")
        policy = {"methods": ["socket"], "privacy": {"epsilon": 3.0, "scopes": ["bottleneck"]}}
        link = {"superlink": "owner.example:9092", "ca": "ca.crt", "node_key": "node_key"}
        deployed = Deployment(folder / "site", folder / "owner.pub.pem", policy=policy, connection=link)
        self.site = deployed.path.read_bytes()
        site = open_deployed(deployed.path)
        self.site_key = Path(export(site, verify(site), folder / "evidence.json"))
        self.evidence = (folder / "evidence.json").read_bytes()

    def _make_lists(self, root: Path) -> None:
        for name in LISTS:
            lines = [f"images/{name}-{index}.png 0" for index in range(3)]
            for line in lines:
                colour(root / line.split()[0], 1)
            (root / "lists").mkdir(exist_ok=True)
            (root / "lists" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        self.list_file = (root / "lists" / "target_train.txt").read_bytes()
        files = {name: f"lists/{name}.txt" for name in LISTS}
        self._lists = ListFiles(**(files | {"target_train": "lists/target.txt"}))

    def lists_with(self, read: Callable[..., object]) -> Callable[[Path], object]:
        """Reads the six lists, one of them the damaged one."""
        return lambda _path: read(self.folder, self._lists, ("chair", "table"))

    def _make_books(self, folder: Path) -> None:
        ledger = Ledger(folder / "ledger.sqlite")
        for job in ("first", "second"):
            ledger.account([b"pair"], job, Limits(100.0, 1e-5)).charge(Event(2.0, 0.5, 3), scope="bottleneck")
        journal = Journal(folder / "egress.sqlite")
        for round_ in range(3):
            journal.write({"kind": "Update", "round": round_})
        self._books = {Ledger: folder / "ledger.sqlite", Journal: folder / "egress.sqlite"}
        self.written = {Ledger: ledger.charges(), Journal: journal.read()}

    def book(self, kind: Book) -> tuple[Path, dict[str, bytes]]:
        """The file of a book, and what its three files hold by ending."""
        path = self._books[kind]
        return path, {end: path.with_suffix(end).read_bytes() for end in (".sqlite", ".key", ".head")}
