"""Signed JSON: one encoding, one signature, and no byte that may differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from socket_core import signed_json
from socket_core.errors import PrivacyError
from socket_core.keys import key_id
from socket_core.signed_json import canonical, check, read, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
CONTENT = {"site": "nörd", "epsilon": 3.0, "list": [1, None, True, "\u2028"], "tiny": 5e-324}
DATA = sign(CONTENT, KEY, "test")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def opened(data: bytes, purpose: str = "test") -> dict[str, Any]:
    return check(data, PUBLIC, purpose, where="file")


def test_what_was_signed_comes_back() -> None:
    assert opened(DATA) == CONTENT
    assert DATA.isascii()


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_content_comes_back(content: dict[str, Any]) -> None:
    assert opened(sign(content, KEY, "test")) == content


def test_the_signature_can_be_checked_without_this_product() -> None:
    whole = json.loads(DATA)
    text = json.dumps(whole["content"], sort_keys=True, indent=1) + "\n"
    PUBLIC.verify(bytes.fromhex(whole["signature"]["value"]), b"test\n" + text.encode())
    assert whole["signature"]["key"] == key_id(PUBLIC)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_one_other_byte_anywhere_is_refused(position: int, mask: int) -> None:
    changed = bytearray(DATA)
    changed[position] ^= mask
    with pytest.raises(PrivacyError):
        opened(bytes(changed))


@given(st.integers(0, len(DATA)), st.binary(min_size=1, max_size=4))
def test_bytes_more_or_less_are_refused(position: int, more: bytes) -> None:
    for changed in (DATA[:position] + more + DATA[position:], DATA[:position] + DATA[position + len(more) :]):
        if changed != DATA:
            with pytest.raises(PrivacyError):
                opened(changed)


def test_another_key_and_another_purpose_are_refused() -> None:
    with pytest.raises(PrivacyError, match="expected the key"):
        check(DATA, Ed25519PrivateKey.generate().public_key(), "test", where="file")
    with pytest.raises(PrivacyError, match="was altered"):
        opened(DATA, "release")


def test_a_key_that_only_claims_to_be_ours_is_refused() -> None:
    whole = json.loads(sign(CONTENT, Ed25519PrivateKey.generate(), "test"))
    whole["signature"]["key"] = key_id(PUBLIC)
    with pytest.raises(PrivacyError, match="was altered"):
        opened(canonical(whole))


def _with_signature(text: str) -> bytes:
    """A file whose content is ``text``, with a signature of just this text: only its form can be refused."""
    signature = json.dumps(json.loads(DATA)["signature"])
    return f'{{"content": {text}, "signature": {signature}}}'.encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_with_signature('{"a": 1, "a": 1}'), "a name twice"),
        (_with_signature('{"a": NaN}'), "NaN is no number"),
        (_with_signature('{"a": -Infinity}'), "-Infinity is no number"),
        (_with_signature('{"a": 1e999}'), "not the JSON"),
        (_with_signature('{"a": ' + "9" * 5000 + "}"), "not the JSON"),
        (_with_signature('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "not the JSON"),
        (_with_signature('{"a": 1}'), "encoding in which"),
        (DATA.replace(b"\n", b"\r\n"), "encoding in which"),
        (json.dumps(json.loads(DATA), indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n", "not the JSON"),
        (b"[]\n", "encoding in which"),
        (b"", "not the JSON"),
        (canonical({"content": CONTENT}), "and no more"),
        (canonical(json.loads(DATA) | {"more": 1}), "and no more"),
        (canonical(json.loads(DATA) | {"content": [1]}), "and no more"),
        (canonical({"content": CONTENT, "signature": {"algorithm": "none", "key": "", "value": ""}}), "Ed25519"),
    ],
    ids=range(15),
)
def test_other_forms_are_refused_with_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(PrivacyError, match=words):
        opened(data)


@pytest.mark.parametrize("change", [str.upper, lambda v: v + "00", lambda v: 7, lambda v: None])
def test_a_signature_in_another_form_is_refused(change: Any) -> None:
    whole = json.loads(DATA)
    whole["signature"]["value"] = change(whole["signature"]["value"])
    with pytest.raises(PrivacyError, match="128 hex digits"):
        opened(canonical(whole))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_never_signed(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sign({"a": value}, KEY, "test")


def test_sizes_are_bounded_on_both_sides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    assert read(path) == DATA
    monkeypatch.setattr(signed_json, "MAX_BYTES", len(DATA) - 1)
    for act in (lambda: sign(CONTENT, KEY, "test"), lambda: opened(DATA), lambda: read(path)):
        with pytest.raises(PrivacyError, match="at most"):
            act()
    with pytest.raises(PrivacyError, match="file not found|missing|not found"):
        read(tmp_path / "other")
