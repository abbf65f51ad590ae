"""Key files: created once, private to their owner, refused when they are anything else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from socket_core import keys
from socket_core.errors import ReleaseError
from socket_core.keys import create_keypair, key_id, load_private_key, load_public_key, short


def test_pair_signs_and_verifies(tmp_path: Path) -> None:
    private_path, public_path = create_keypair(tmp_path / "new", "owner")
    assert (private_path.name, public_path.name) == ("owner.key.pem", "owner.pub.pem")
    private, public = load_private_key(private_path), load_public_key(public_path)
    public.verify(private.sign(b"text"), b"text")
    assert key_id(private.public_key()) == key_id(public)
    assert stat.S_IMODE(private_path.stat().st_mode) == 0o600
    assert b"BEGIN PRIVATE KEY" in private_path.read_bytes()


def test_mode_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_path, _ = create_keypair(tmp_path, "owner")
    finally:
        os.umask(before)
    assert stat.S_IMODE(private_path.stat().st_mode) == 0o600


def test_key_id_is_the_hash_of_the_raw_key() -> None:
    # Public key of RFC 8032, test 1.
    raw = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    full = key_id(Ed25519PublicKey.from_public_bytes(raw))
    assert full == "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9"
    assert short(full) == "21fe31dfa154a261"


@pytest.mark.parametrize("existing", ["owner.key.pem", "owner.pub.pem"])
def test_existing_files_are_never_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_bytes(b"mine")
    with pytest.raises(ReleaseError, match="never overwritten") as caught:
        create_keypair(tmp_path, "owner")
    assert existing in caught.value.where
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_bytes() == b"mine"


def test_existing_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "owner.key.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match="never overwritten"):
        create_keypair(tmp_path, "owner")
    assert [path.name for path in tmp_path.iterdir()] == ["owner.key.pem"]


@pytest.mark.parametrize("stem", ["", "../owner", "a/b", ".", "a\n", "-x", "x" * 101])
def test_stem_must_be_a_file_name(tmp_path: Path, stem: str) -> None:
    with pytest.raises(ReleaseError, match="cannot name a key file"):
        create_keypair(tmp_path, stem)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReleaseError, match="cannot write the key pair: No space"):
        create_keypair(tmp_path, "owner")
    assert not list(tmp_path.iterdir())


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleaseError):
        create_keypair(tmp_path / "file", "owner")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_private_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    private_path, _ = create_keypair(tmp_path, "owner")
    private_path.chmod(mode)
    with pytest.raises(ReleaseError, match=f"group or others.*{mode:04o}") as caught:
        load_private_key(private_path)
    assert "chmod 600" in caught.value.remedy


def _private_pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    lock = ser.BestAvailableEncryption(password) if password else ser.NoEncryption()
    return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, lock)


def test_wrong_private_keys(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    secret = _private_pem(ec.generate_private_key(ec.SECP256R1()))
    cases = {
        b"": "unencrypted private key in PEM form",
        b"\x00\xff": "unencrypted private key in PEM form",
        _private_pem(Ed25519PrivateKey.generate(), b"pass"): "unencrypted private key",
        secret: "Ed25519 key .found .*PrivateKey",
        b"x" * (keys.MAX_KEY_BYTES + 1): "at most",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(ReleaseError, match=message) as caught:
            load_private_key(path)
        assert caught.value.where == str(path)
        assert caught.value.remedy
        assert secret.decode().splitlines()[1] not in str(caught.value)


def test_public_for_private_and_back(tmp_path: Path) -> None:
    private_path, public_path = create_keypair(tmp_path, "owner")
    public_path.chmod(0o600)
    with pytest.raises(ReleaseError, match="private key in PEM form") as caught:
        load_private_key(public_path)
    assert "<name>.key.pem" in caught.value.remedy
    with pytest.raises(ReleaseError, match="public key in PEM form") as caught:
        load_public_key(private_path)
    assert "<name>.pub.pem" in caught.value.remedy


def test_wrong_public_key_type(tmp_path: Path) -> None:
    path = tmp_path / "pub.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ReleaseError, match="Ed25519 key .found .*PublicKey"):
        load_public_key(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="not found"):
        load_public_key(tmp_path / "none.pem")
    with pytest.raises(ReleaseError):
        load_public_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ReleaseError, match="something else"):
        load_private_key(tmp_path / "pipe")


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_random_bytes_raise_only_release_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.pem"
    path.touch(mode=0o600)
    for text in (data, b"-----BEGIN PUBLIC KEY-----\n" + data + b"\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(text)
        for load in (load_private_key, load_public_key):
            with pytest.raises(ReleaseError):
                load(path)
