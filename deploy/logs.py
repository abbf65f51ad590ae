"""Log files of a supervised process: rotated, and without image names, data paths or keys."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

from socket_core.run_config import APP

MAX_BYTES, KEPT = 5_000_000, 5
PROGRAM = (Path(sys.prefix), Path(sys.base_prefix), APP)
"""Where this program itself lies: such paths say nothing about images."""
TAIL = 80
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENDINGS = "png|jpe?g|tiff?|bmp|gif|webp|pgm|ppm|npy|npz|exr|mat|raw"
_IMAGE = re.compile(rf"[^\s'\"/]+\.(?:{_ENDINGS})\b", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w./])/(?!/)[^\s'\"`,;:()<>\[\]]+")
_KEY = re.compile(r".*PRIVATE KEY.*|\b(?=[0-9a-f]*[^\W0-9a-f_])[A-Za-z0-9+/]{60,}={0,2}")
"""A key's first or last line, or a line of its body, or a public key; a digest in hex is none."""
_NOISE = re.compile(r'^(INFO\s*:\s*)?$|\[uvicorn\.access\].*" 200$')
"""Empty lines, and requests that went well: several a second."""


class Redactor:
    """Takes out of a line what must not be in a log.

    Args:
        named: Folders and files that are named instead of shown, by what they are called: ``{"tr": Path(...)}``.
        shown: Folders whose paths may be shown, for example this program's own.
    """

    def __init__(self, named: Mapping[str, Path], shown: Sequence[Path]) -> None:
        places = [(str(p), name) for name, path in named.items() for p in {path, path.resolve()}]
        # The longest first: a folder inside another is called by its own name.
        self._named = [
            # Up to ": ", where our messages end a place, or to a quote; a file's name may hold blanks.
            (re.compile(re.escape(place) + r"(?![\w.-])(?:(?!: )[^'\"])*"), f"<{name}>")
            for place, name in sorted(places, key=lambda pair: -len(pair[0]))
        ]
        self._shown = tuple(f"{p}/" for folder in shown for p in {str(folder), str(folder.resolve())})

    def __call__(self, line: str) -> str:
        """The line as it may be kept."""
        line = _COLOUR.sub("", line)
        for pattern, name in self._named:
            line = pattern.sub(name, line)
        return _KEY.sub("<key>", _IMAGE.sub("<image>", _PATH.sub(self._path, line)))

    def _path(self, match: re.Match[str]) -> str:
        path = match.group()
        if f"{path}/".startswith(self._shown) or not Path("/", path.split("/")[1]).is_dir():
            return path  # the program's own, or no path of this machine: /api/v1
        return "<path>"


class _Patient(RotatingFileHandler):
    """Drops what cannot be written, for example while the disk is full: the process must go on."""

    def handleError(self, _record: logging.LogRecord) -> None:
        pass


class ProcessLog:
    """Reads a process's output into a rotating file and remembers the last lines.

    Args:
        path: Of the file.
        redact: What each line goes through first.
        watch: Told of each line as it is kept.
    """

    def __init__(self, path: Path, redact: Callable[[str], str], watch: Callable[[str], None] | None = None) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = path.parent
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._redact, self._watch = redact, watch
        self._handler = _Patient(path, maxBytes=MAX_BYTES, backupCount=KEPT, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._reader: threading.Thread | None = None

    def attach(self, process: subprocess.Popen[bytes]) -> None:
        """Reads from a process until it ends."""
        self.tail.clear()
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Waits until the output is read, two seconds at most: an orphan may hold the pipe open."""
        if self._reader is not None:
            self._reader.join(2.0)

    def close(self) -> None:
        """Closes the file."""
        self.finish()
        self._handler.close()

    def write(self, line: str) -> None:
        """Keeps one line, redacted, unless it says nothing."""
        line = self._redact(line)
        if _NOISE.search(line):
            return
        self.tail.append(line)
        self._handler.handle(logging.LogRecord("process", logging.INFO, "", 0, "%s", (line,), None))
        if self._watch is not None:
            self._watch(line)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for raw in stream:
                self.write(raw.decode("utf-8", "replace").rstrip())
