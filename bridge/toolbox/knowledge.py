"""The tool `knowledge`: what the operator's own documents say of something.

    folder ─▶ documents cut into chunks ─▶ SQLite FTS5, in memory ─▶ the best few, by BM25

No service, no model: full-text search finds what is called by its name, and a language model that
asks knows other names to try. Words are stemmed (English) and stripped of accents; a chunk needs
one of them, and is the better the more and the rarer ones it has, its headings counting more.

A process has one index a folder, for all calls and agents. Every so often a search first looks
whether the files are what they were (names, sizes, times), and reads them anew if not. All of that
is done in a thread: the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError
from bridge.toolbox import schema
from bridge.toolbox.base import ToolContext
from bridge.toolbox.documents import SUFFIXES, chunks
from bridge.tooltables import KnowledgeTool

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Between two looks at the files."""
MOST_FILES = 5000
MOST_BYTES = 20_000_000
"""Of all files of a folder."""
MOST_WORDS = 16
"""Of what is searched for."""

_WORD = re.compile(r"[^\W_]+")
_QUERY = {"type": "string", "description": "Words to look for, as they may stand in the text."}
_MAKE = """CREATE VIRTUAL TABLE chunks USING
    fts5(heading, text, file UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')"""
_FIND = """SELECT file, heading, text FROM chunks WHERE chunks MATCH ?
    ORDER BY bm25(chunks, 3.0, 1.0) LIMIT ?"""
"""A word in a heading counts three times as much."""

State = dict[str, tuple[int, int]]
"""Size and time of each file, by its path within the folder."""


class Index:
    """A folder's. Made and used in any thread."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self.folder = folder
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._state: State = {}
        self._looked = 0.0

    def search(self, query: str, most: int) -> list[dict[str, str]]:
        """The `most` best chunks: `source` (file and heading), `text`."""
        words = dict.fromkeys(word.lower() for word in _WORD.findall(query))
        # In quotes nothing is syntax to FTS5, not even NEAR or a star.
        expression = " OR ".join(f'"{word}"' for word in [*words][:MOST_WORDS])
        with self._lock:
            database = self._fresh()
            if not expression:
                return []
            rows = database.execute(_FIND, (expression, most)).fetchall()
        return [
            {"source": f"{file}, {heading}" if heading else file, "text": text}
            for file, heading, text in rows
        ]

    def load(self) -> None:
        """Read the folder, if that isn't done yet."""
        with self._lock:
            self._fresh()

    def _fresh(self) -> sqlite3.Connection:
        """The database, of the files as they are now."""
        now = time.monotonic()
        if self._database is not None and now - self._looked < LOOK_S:
            return self._database
        state = _state(self.folder)
        self._looked = now
        if self._database is None or state != self._state:
            made = _made(self.folder, state)
            if self._database is not None:
                self._database.close()
            self._database, self._state = made, state
        return self._database


def _state(folder: Path) -> State:
    found: State = {}
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            if len(found) == MOST_FILES:
                log.warning("%s: only the first %d documents are read", folder, MOST_FILES)
                return found
            try:
                stat = path.stat()
            except OSError as error:  # gone since, most likely
                log.warning("%s can't be read, and is left out: %s", path, error.strerror)
                continue
            found[path.relative_to(folder).as_posix()] = stat.st_size, stat.st_mtime_ns
    return found


def _made(folder: Path, state: State) -> sqlite3.Connection:
    """A database of these files."""
    began = time.monotonic()
    # Whoever uses it holds the lock, in whatever thread.
    database = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        database.execute(_MAKE)
    except sqlite3.OperationalError as error:
        raise ConfigError(f"this Python's SQLite has no FTS5: {error}") from error
    database.executemany("INSERT INTO chunks VALUES (?, ?, ?)", _rows(folder, state))
    database.commit()
    [[count]] = database.execute("SELECT count(*) FROM chunks")
    log.info(
        "%s: %d documents, %d chunks, read in %.0f ms",
        *(folder, len(state), count, (time.monotonic() - began) * 1000),
    )
    return database


def _rows(folder: Path, state: State) -> Iterator[tuple[str, str, str]]:
    left = MOST_BYTES
    for name, (size, _) in state.items():
        path = folder / name
        if size > left:
            log.warning("%s is left out: %s has more than %d bytes", path, folder, MOST_BYTES)
            continue
        left -= size
        try:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            log.warning("%s can't be read, and is left out: %s", path, error.strerror)
            continue
        for chunk in chunks(text, path.suffix.lower()):
            yield chunk.heading, chunk.text, name


@functools.cache
def index_of(folder: Path) -> Index:
    """The one index of that folder."""
    return Index(folder)


class Knowledge:
    """The tool that a table declares."""

    again = True

    def __init__(self, name: str, table: KnowledgeTool, home: Path) -> None:
        """`home`: what its folder is relative to. Raises `ConfigError`: there is no such folder."""
        folder = (home / table.folder).resolve()
        if not folder.is_dir():
            raise ConfigError(f"'folder': {folder} is no folder")
        self._index, self._results = index_of(folder), table.results
        self.__name__ = name
        self.description = table.description
        self.parameters = schema.of({"query": _QUERY}, None)
        self.timeout_s = table.timeout_s

    async def prepare(self) -> None:
        """Read the documents before anybody asks."""
        await asyncio.to_thread(self._index.load)

    async def find(self, query: str) -> list[dict[str, str]]:
        """As `Index.search`."""
        return await asyncio.to_thread(self._index.search, query, self._results)

    async def __call__(self, call: ToolContext, /, **arguments: Any) -> Any:
        """What was found: a list of `Index.search`, or a sentence that there is nothing."""
        schema.check(self.parameters, arguments)
        found = await self.find(arguments["query"])
        return found or "The documents say nothing of that; other words may find it."
