"""What the owner's service starts the SuperLink with."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import commands, owner_service
from deploy.logs import ProcessLog
from deploy.supervisor import Service
from tests.deploy.builders import deployment_in


def test_the_owners_processes_give_memory_back_and_those_of_sites_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setattr(owner_service, "check_port", lambda *_: None)  # whether they are free is not asked here
    served: list[Service] = []

    def serve(service: Service, log: ProcessLog, **_: object) -> None:
        served.append(service)
        log.close()

    monkeypatch.setattr(owner_service, "serve", serve)
    deployment = deployment_in(tmp_path / "plants")
    owner_service.serve_owner(deployment, tell=lambda _text: None)
    (service,) = served
    common = commands.environment(deployment.flower_home)
    assert service.environment == common | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    assert "MALLOC_MMAP_THRESHOLD_" not in common, "sites train, and would pay for it"
