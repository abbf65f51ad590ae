"""What a log keeps of a process's output, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import processes
from deploy.diagnosis import diagnose
from deploy.logs import PROGRAM, ProcessLog, Redactor
from deploy.pki import create_authority, create_node_key
from tests.deploy.builders import python

SITE = Redactor(
    {"tr": Path("/srv/plant 7/tr"), "ti_rgb": Path("/srv/plant 7/tr/pairs")}, [Path("/srv/state"), *PROGRAM]
)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("/srv/plant 7/tr/monday/line 3.png: its other half is missing", "<tr>: its other half is missing"),
        ("no image: '/srv/plant 7/tr/pairs/a.png'", "no image: '<ti_rgb>'"),
        ("tr: /srv/plant 7/tr: no image found", "tr: <tr>: no image found"),
        ("cannot decode shift-2026.TIFF (truncated)", "cannot decode <image> (truncated)"),
        ("open /tmp/elsewhere/x failed", "open <path> failed"),
        ("/srv/state/flower/apps is new", "/srv/state/flower/apps is new"),
        ("running on https://127.0.0.1:9093 (Press CTRL+C)", "running on https://127.0.0.1:9093 (Press CTRL+C)"),
        ("POST /v1/control/list-nodes HTTP/1.1 500", "POST /v1/control/list-nodes HTTP/1.1 500"),
        ("\x1b[92mINFO \x1b[0m: round 1", "INFO : round 1"),
        (f"message (ID: {'0123456789abcdef' * 4})", f"message (ID: {'0123456789abcdef' * 4})"),
    ],
)
def test_paths_of_data_and_names_of_images_are_taken_out(line: str, kept: str) -> None:
    assert SITE(line) == kept


def test_no_line_of_a_key_is_kept() -> None:
    for pem in (create_node_key()[0], create_node_key()[1], create_authority("x").key):
        for line in pem.decode().splitlines():
            body = line.removeprefix("ecdsa-sha2-nistp384 ")
            if len(body) >= 60 and "/" not in body and "+" not in body:
                assert SITE(line).removeprefix("ecdsa-sha2-nistp384 ") == "<key>"
            assert "PRIVATE" not in SITE(line)


NAMES = st.text(st.characters(exclude_characters="'\"", exclude_categories=("Cc", "Cs")), min_size=1)


@given(NAMES.filter(str.strip))
def test_whatever_an_image_is_called_its_name_does_not_stay(name: str) -> None:
    kept = SITE(f"failed on '/srv/plant 7/tr/{name}.png'")
    assert f"{name}.png" not in kept


def test_output_goes_into_a_file_that_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.logs.MAX_BYTES", 1000)
    seen: list[str] = []
    log = ProcessLog(tmp_path / "log" / "thing.log", SITE, seen.append)
    program = "for n in range(200): print('line', n, '/srv/plant 7/tr/a.png')\nprint('INFO :')"
    process = processes.spawn(python(program), environment={}, folder=tmp_path)
    log.attach(process)
    process.wait()
    log.close()
    assert seen == [f"line {n} <tr>" for n in range(200)]
    files = sorted((tmp_path / "log").iterdir())
    assert [f.name for f in files] == ["thing.log", *(f"thing.log.{n}" for n in range(1, 6))]
    assert all(f.stat().st_size <= 1000 for f in files)
    assert files[0].read_text().splitlines()[-1].endswith(" line 199 <tr>")
    assert list(log.tail)[-1] == "line 199 <tr>"
    assert len(log.tail) == 80


@pytest.mark.parametrize(
    ("status", "tail", "sentence"),
    [
        (1, ["[code: 2004] Failed to activate SuperNode."], "its key is not registered there"),
        (1, ["[code: 2001] SuperNode authentication is enabled."], "its key is not registered there"),
        (1, ["Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "Exit Code: 305"], "of another authority"),
        (1, ["CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "Exit Code: 305"], "or this machine's clock"),
        (0, ["SuperNode terminated gracefully."], "Set this machine's clock"),
        (1, ["[Errno 98] error while attempting to bind on address"], "a port is taken"),
        (-9, [], "the SuperNode was ended by SIGKILL, perhaps because memory was used up"),
        (-15, [], "the SuperNode was ended by SIGTERM"),
        (2, ["Traceback", "ValueError: wrong", "bye"], "the SuperNode ended with status 2: ValueError: wrong"),
        (2, ["bye"], "the SuperNode ended with status 2; its log has the details"),
    ],
)
def test_what_was_wrong_is_one_sentence(status: int, tail: list[str], sentence: str) -> None:
    found = diagnose("the SuperNode", status, tail)
    assert sentence in found
    assert "\n" not in found
