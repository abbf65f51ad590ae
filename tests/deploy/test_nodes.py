"""Registration of sites and who is connected, against a SuperLink that answers as Flower's commands do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy import nodes
from deploy.flower import ask
from deploy.layout import Deployment
from deploy.owner_service import NodeWatch
from deploy.supervisor import Supervisor
from socket_core.errors import DeploymentError
from tests.deploy.builders import deployment_in, wait_until


class Link:
    """Keeps registered keys; ids count from 1."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.online: set[int] = set()
        self.registrations = 0
        self.silent = False

    def ask(
        self, _deployment: Deployment, *words: str, extra: tuple[str, ...] = (), check: bool = True
    ) -> dict[str, Any]:
        if self.silent:
            raise DeploymentError("the SuperLink gives no answer (down)")
        if words == ("supernode", "list"):
            states = {i: "online" if i in self.online else "registered" for i in self.keys.values()}
            return {"success": True, "nodes": [{"node-id": str(i), "status": s} for i, s in states.items()]}
        assert words[:2] == ("supernode", "register")
        key = Path(words[2]).read_text()
        if key in self.keys:
            return {"success": False, "error-message": "[code: 23] Public key already in use."}
        if "nonsense" in key:
            return {"success": False, "error-message": "not a NIST EC curve"}
        self.keys[key] = len(self.keys) + 1
        self.registrations += 1
        assert extra == ("--name", Path(words[2]).stem)
        return {"success": True, "node-id": self.keys[key]}


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    made = Link()
    monkeypatch.setattr("deploy.nodes.ask", made.ask)
    return made


@pytest.fixture
def plants(tmp_path: Path) -> Deployment:
    return deployment_in(tmp_path / "plants")


def test_each_site_is_registered_once(plants: Deployment, link: Link) -> None:
    nodes.register(plants)
    nodes.register(plants)
    assert link.registrations == 2
    assert json.loads(plants.registered.read_text()) == {"north": "1", "south": "2"}


def test_a_lost_database_means_registering_again(plants: Deployment, link: Link) -> None:
    nodes.register(plants)
    link.keys.clear()
    nodes.register(plants)
    assert link.registrations == 4


def test_a_lost_note_is_no_error(plants: Deployment, link: Link) -> None:
    nodes.register(plants)
    plants.registered.unlink()
    nodes.register(plants)
    assert link.registrations == 2


def test_a_key_that_is_refused_is_named(plants: Deployment, link: Link) -> None:
    plants.node_key("south").write_text("nonsense")
    with pytest.raises(DeploymentError, match="the key of site 'south' was refused: not a NIST EC curve"):
        nodes.register(plants)


def test_connected_sites_are_counted_by_name(plants: Deployment, link: Link) -> None:
    nodes.register(plants)
    assert str(nodes.connected(plants)) == "0 of 2 sites connected (missing: north, south)"
    link.online = {2}
    assert nodes.connected(plants) == nodes.Nodes(("south",), ("north",))
    assert str(nodes.connected(plants)) == "1 of 2 sites connected (missing: north)"
    link.online = {1, 2}
    assert str(nodes.connected(plants)) == "2 of 2 sites connected"


class Up(Supervisor):
    """A supervisor whose service is up as a process of the test's choice."""

    def __init__(self, pid: int | None) -> None:
        self.state, self._pid = ("up" if pid else "waiting"), pid

    @property
    def pid(self) -> int | None:
        return self._pid


def test_the_watch_registers_for_each_new_superlink_and_says_who_is_missing(
    plants: Deployment, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.owner_service.TICK_SECONDS", 0.01)
    monkeypatch.setattr("deploy.owner_service.ASK_EVERY", 0.05)
    monkeypatch.setattr("deploy.owner_service.ASK_SELDOM", 0.05)
    watch = NodeWatch(plants)
    watch.start()
    try:
        watch.follow(Up(None))
        assert watch.text() == ""
        watch.follow(Up(11))
        wait_until(lambda: watch.text() == "0 of 2 sites connected (missing: north, south)")
        link.online = {1, 2}
        wait_until(lambda: watch.text() == "2 of 2 sites connected")
        link.silent = True
        wait_until(lambda: watch.text() == "sites cannot be asked for: the SuperLink gives no answer (down)")
        link.silent = False
        link.keys.clear()
        watch.follow(Up(12))
        wait_until(lambda: link.registrations == 4)
    finally:
        watch.end()
        watch.join(10)


def test_a_superlink_that_is_not_there_is_said(plants: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = 'import sys; print(\'{"success": false, "error-message": "first\\\\nConnection is unavailable"}\')'
    monkeypatch.setattr("deploy.commands.flwr", lambda *_: ["python3", "-c", answers])
    with pytest.raises(DeploymentError, match=r"127.0.0.1:9093: .*no answer \(Connection is unavailable\)\n.*serve"):
        ask(plants, "list")
    assert ask(plants, "list", check=False)["success"] is False
    monkeypatch.setattr("deploy.commands.flwr", lambda *_: ["python3", "-c", "print('no JSON')"])
    with pytest.raises(DeploymentError, match="no JSON"):
        ask(plants, "list")
