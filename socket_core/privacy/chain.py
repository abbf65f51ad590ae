"""An append-only list of entries in SQLite that notices when it was cut, edited, or replaced.

Three files side by side: ``X.sqlite`` the entries, ``X.key`` a random key that never leaves the site, ``X.head`` how
many entries there were and the code of the last one. Each entry carries a keyed code (HMAC-SHA256) of itself and of
the code before it. The database is written ahead (WAL) with ``synchronous=FULL``: an entry that :meth:`Chain.append`
has returned for survives a crash. The head is written after the entry, so it may lag behind, but never leads: fewer
entries than the head counts means that some were taken away.

What software cannot notice: someone who deletes or sets back all three files together.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from socket_core.errors import PrivacyError
from socket_core.files import write_atomically

WAIT_SECONDS = 30.0
"""How long one process waits for another to finish its entry."""

_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""What SQLite says of a full disk, of itself or of the file for what is not in the database yet."""

_TABLES = """
CREATE TABLE entries (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, code TEXT NOT NULL);
CREATE TABLE tags (list TEXT NOT NULL, tag BLOB NOT NULL, PRIMARY KEY (list, tag)) WITHOUT ROWID;
"""


class Chain:
    """The entries of one file, and lists of tags that entries refer to by name.

    Args:
        path: The database. It is made if neither it nor its key nor its head is there.
        create: Whether it may be made.
        whole: Whether opening checks all entries, or the newest against the head alone, which takes the same time
            however many there are.
        called: What messages call it.

    Raises:
        PrivacyError: If one of the three files is missing or they do not agree.
    """

    def __init__(self, path: Path, *, create: bool = True, whole: bool = True, called: str = "ledger") -> None:
        self.path, self._key_file, self._head_file = path, path.with_suffix(".key"), path.with_suffix(".head")
        self._called = called
        if not create and not self.begun(path):
            raise PrivacyError(
                f"no {called} here yet", where=str(path), remedy="the first run that needs one starts it"
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.locked():
            self._key = self._make_sure()
            self._checked(whole=whole)

    @staticmethod
    def begun(path: Path) -> bool:
        """Whether any of the three files is there."""
        return any(file.exists() for file in (path, path.with_suffix(".key"), path.with_suffix(".head")))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps all other processes out meanwhile; not to be nested.

        Raises:
            PrivacyError: If another process does not finish.
        """
        with self.path.with_suffix(".lock").open("a") as file:
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise PrivacyError(
                            f"another process holds the {self._called} for over {WAIT_SECONDS:g} s",
                            where=str(self.path),
                            remedy="wait for it, or end it",
                        ) from None
                    time.sleep(0.02)
            yield

    def keyed(self, purpose: str, content: bytes) -> bytes:
        """A code of ``content``, 32 bytes, that tells nothing to whoever lacks the key."""
        return hmac.digest(self._key, purpose.encode() + b"\0" + content, hashlib.sha256)

    def read(self) -> list[dict[str, Any]]:
        """All entries in order, after checking every code and the head.

        Raises:
            PrivacyError: If an entry was altered or taken away, or the file is damaged.
        """
        return [json.loads(body) for _, body, _ in self._checked()]

    def codes(self) -> list[str]:
        """The code of each entry, checked as in :meth:`read`: whoever wrote one down can tell that list later."""
        return [code for _, _, code in self._checked()]

    def newest(self) -> tuple[int, str]:
        """How many entries there are and the code of the last one, ``(0, "")`` for none; only that one is checked."""
        found = self._checked(whole=False)
        return (found[-1][0], found[-1][2]) if found else (0, "")

    def _checked(self, *, whole: bool = True) -> list[tuple[int, str, str]]:
        """Number, body and code of all entries, or of the one that the head names and those after it."""
        count, last = self._head()  # before the entries: these only grow
        code, found, skipped = "", [], 0 if whole else max(count - 1, 0)
        with self._database() as database:
            rows = database.execute(
                "SELECT seq, body, code FROM entries WHERE seq >= ? ORDER BY seq", (skipped,)
            ).fetchall()
        if skipped and rows:
            code = rows.pop(0)[2] if rows[0][0] == skipped else code
        for position, (seq, body, claimed) in enumerate(rows, start=skipped + 1):
            code = self._code(code, body)
            if seq != position or not (isinstance(body, str) and _same(code, claimed)):
                raise self._broken(f"entry {position} is missing or was altered")
            if position == count and not _same(code, last):
                raise self._broken(f"entry {position} is not the one that the head names")
            found.append((seq, body, code))
        if skipped + len(found) < count:
            raise self._broken(f"expected {count} entries or more, found {skipped + len(found)}")
        return found

    def append(self, entry: dict[str, Any], *, tags: Sequence[bytes] = (), name: str = "") -> None:
        """Writes an entry, and a list of tags under ``name``; on disk when this returns. Call it while locked."""
        body = json.dumps(entry, sort_keys=True, allow_nan=False)
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT seq, code FROM entries ORDER BY seq DESC LIMIT 1").fetchone() or (0, "")
            seq, code = int(row[0]) + 1, self._code(row[1], body)
            database.execute("INSERT INTO entries VALUES (?, ?, ?)", (seq, body, code))
            database.executemany("INSERT INTO tags VALUES (?, ?)", [(name, tag) for tag in tags])
            database.execute("COMMIT")
        self._write_head(seq, code)

    def tags(self, name: str) -> list[bytes]:
        """The list of that name, sorted."""
        with self._database() as database:
            rows = database.execute("SELECT tag FROM tags WHERE list = ? ORDER BY tag", (name,)).fetchall()
        if not all(isinstance(tag, bytes) for (tag,) in rows):
            raise self._broken(f"a list of the {self._called} was altered")
        return [tag for (tag,) in rows]

    def _make_sure(self) -> bytes:
        """The key; makes all three files where nothing was ever written.

        They are made in this order: database, key, head. Only a crash in between leaves an empty database without
        the others.
        """
        if not self.path.exists():
            if self._key_file.exists() or self._head_file.exists():
                raise self._broken(f"the {self._called} is gone, but it was here")
            self._make()
        if not self._key_file.exists():
            with self._database() as database:
                used = database.execute("SELECT count(*) FROM entries").fetchone()[0] > 0
            if used or self._head_file.exists():
                raise self._broken(f"the {self._called}'s key is gone")
            descriptor = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
        key = self._key_file.read_bytes()
        if len(key) != 32:
            raise self._broken(f"the {self._called}'s key is damaged")
        if not self._head_file.exists():
            with self._database() as database:
                used = database.execute("SELECT count(*) FROM entries").fetchone()[0] > 0
            if used:
                raise self._broken(f"the {self._called}'s head is gone")
            self._write_head(0, "")
        return key

    def _make(self) -> None:
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with self._database() as database:
            database.executescript(f"BEGIN; {_TABLES} COMMIT;")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            uri = f"{self.path.resolve().as_uri()}?mode=rw"  # never makes a new one
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_SECONDS)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_ROOM:
                raise PrivacyError(
                    f"the {self._called} cannot be written ({error})",
                    where=str(self.path),
                    remedy="most often the disk is full: make room; what was written before is still there",
                ) from None
            raise self._broken(f"the database cannot be used ({error})") from None

    def _code(self, before: str, body: str) -> str:
        return self.keyed("entry", f"{before}\n{body}".encode()).hex()

    def _head(self) -> tuple[int, str]:
        try:
            raw = json.loads(self._head_file.read_text(encoding="utf-8"))
            return int(raw["count"]), str(raw["code"])
        except (OSError, ValueError, KeyError, TypeError):
            raise self._broken(f"the {self._called}'s head is gone or damaged") from None

    def _write_head(self, count: int, code: str) -> None:
        write_atomically(self._head_file, json.dumps({"count": count, "code": code}).encode())

    def _broken(self, what: str) -> PrivacyError:
        return PrivacyError(
            what,
            where=str(self.path),
            remedy="restore .sqlite, .key and .head together from a backup that is not older than the last run; "
            "a new one would forget what this one knows",
        )


def _same(code: str, claimed: object) -> bool:
    """Whether a code is the one that a file claims; files may hold anything."""
    return isinstance(claimed, str) and hmac.compare_digest(code.encode(), claimed.encode("utf-8", "surrogatepass"))
