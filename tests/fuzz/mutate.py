"""Damage: bytes changed, cut, doubled, spliced, and tokens that parsers stumble over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

TOKENS = (
    *(b"\x00", b"\xff\xff\xff\xff", b"\x80", b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xc3\x28", "\u2028".encode()),
    *(b"null", b"NaN", b"Infinity", b"1e999", b"-1", b"0", b"999999999999999999999", b"true", b'""', b"[]", b"{}"),
    *(b"!!python/object/apply:os.system [x]", b"&a [*a, *a]", b"<<: *a", b"? x : y", b"- ", b": ", b"\t", b"\n", b"'"),
    *(b"../../etc/passwd", b"/dev/null", b"%s%n", b"__class__"),
)
DEEP = (b"[" * 5000, b'{"a":' * 5000, b"- " * 5000, b"(" * 5000)
"""Nested deeper than a recursive parser can follow; seldom used, since each takes its time."""

Change = Callable[[random.Random, bytes], bytes]


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _set(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) + data[at + 1 :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((_place(rng, data), _place(rng, data)))
    return data[:start] + data[end:]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _double(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((_place(rng, data), _place(rng, data)))
    return data[:end] + data[start:end] + data[end:]


def _token(rng: random.Random, data: bytes) -> bytes:
    at, token = _place(rng, data), rng.choice(DEEP) if rng.random() < 0.01 else rng.choice(TOKENS)
    return data[:at] + token + data[min(len(data), at + rng.choice((0, 0, len(token)))) :]


def _noise(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]


CHANGES: tuple[Change, ...] = (_flip, _flip, _set, _set, _cut, _truncate, _double, _token, _token, _noise)


def mutate(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """One of the samples, changed in one to four places, sometimes with the end of another one."""
    data = rng.choice(samples)
    if rng.random() < 0.1:
        data = _truncate(rng, data) + rng.choice(samples)[_place(rng, data) :]
    for _ in range(rng.randrange(1, 5)):
        data = rng.choice(CHANGES)(rng, data)
    return data
