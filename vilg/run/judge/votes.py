"""Votes in SQLite, STUDY/votes.sqlite: one row for a rater's answer to a question about an item;
the latest answer counts.

Every vote is on the disk before the rater is told that it is saved. Connections are opened for each
call, so that any thread and any process may write. A file belongs to one study, whose id it holds.
"""

import json
import math
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vilg.metrics.ratings import Vote
from vilg.run.judge.study import Study
from vilg.types import UserError

SCHEMA = """
CREATE TABLE IF NOT EXISTS study (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS votes (
  rater TEXT NOT NULL, item TEXT NOT NULL, question TEXT NOT NULL, value INTEGER NOT NULL,
  time REAL NOT NULL,
  UNIQUE (rater, item, question)
);
"""
UPSERT = """
INSERT INTO votes VALUES (?, ?, ?, ?, ?) ON CONFLICT (rater, item, question)
DO UPDATE SET value = excluded.value, time = excluded.time WHERE excluded.time >= votes.time
"""
LONGEST = 64  # characters of a rater's name


class Refused(Exception):
    """A vote that cannot be kept: an HTTP status and a sentence."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Given(NamedTuple):
    """An answer as it comes in, unchecked; seconds since 1970."""

    item: Any
    question: Any
    value: Any
    time: float


class Votes:
    """The votes of one study."""

    def __init__(self, path: Path, study: Study):
        """Opens or makes the file. Errors: UserError if it is another study's, or no SQLite
        file.
        """
        self.path, self.study = path, study
        self.items = {item.id for item in study.items}
        self.values = {question.name: question.values for question in study.asks.questions}
        try:
            with self.connection() as db:
                db.executescript(SCHEMA)
                db.execute(
                    "INSERT INTO study SELECT ? WHERE NOT EXISTS (SELECT 1 FROM study)", (study.id,)
                )
                owner = db.execute("SELECT id FROM study").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"votes={str(path)!r}: is not a file of votes ({error}); move it away"
            ) from None
        if owner != study.id:
            raise UserError(
                f"votes={str(path)!r}: belongs to study {owner}, not to this one ({study.id}); put"
                " each study in its own directory"
            )

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the right to write from its start; kept if nothing is raised."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:  # executescript ends the one that was begun
                db.execute("COMMIT")

    def add(self, rater: Any, study: Any, given: Sequence[Given]) -> None:
        """Keeps a rater's answers, all or none. Errors: Refused, with the reason."""
        if study != self.study.id:
            raise Refused(
                409,
                f"study={study!r}: these votes are of another study than this one"
                f" ({self.study.id}); open its own page",
            )
        rater = rater_name(rater)
        for answer in given:
            self.check(answer)
        with self.connection() as db:
            known = {name for (name,) in db.execute("SELECT DISTINCT rater FROM votes")}
            if rater not in known and len(known) >= self.study.raters:
                raise Refused(
                    403,
                    f"rater={rater!r}: this study has its {self.study.raters} raters; use the name"
                    " you began with, or raise --raters",
                )
            db.executemany(UPSERT, [(rater, *answer) for answer in given])

    def check(self, given: Given) -> None:
        """Errors: Refused for an item, question or value that the study does not have."""
        if not isinstance(given.item, str) or given.item not in self.items:
            raise Refused(404, f"item={given.item!r}: this study has no such item; reload the page")
        if not isinstance(given.question, str) or given.question not in self.values:
            raise Refused(
                422,
                f"question={given.question!r}: this study asks {', '.join(self.values)}; reload the"
                " page",
            )
        if type(given.value) is not int or given.value not in self.values[given.question]:
            allowed = ", ".join(map(str, sorted(self.values[given.question])))
            raise Refused(
                422,
                f"value={given.value!r}: {given.question} is answered by one of {allowed}; reload"
                " the page",
            )

    def of(self, rater: Any) -> dict[str, dict[str, dict[str, int]]]:
        """A rater's votes as the page keeps them: item -> {"values": {question: value}}."""
        name, out = rater_name(rater), {}
        with self.connection() as db:
            for item, question, value in db.execute(
                "SELECT item, question, value FROM votes WHERE rater = ?", (name,)
            ):
                out.setdefault(item, {"values": {}})["values"][question] = value
        return out

    def all(self) -> list[Vote]:
        """Every vote, in a fixed order."""
        with self.connection() as db:
            return [
                Vote(*row)
                for row in db.execute(
                    "SELECT rater, item, question, value FROM votes ORDER BY rater, item, question"
                )
            ]

    def merge(self, path: Path) -> int:
        """Adds the votes of a file that the page gave; how many it holds. Errors: UserError."""
        try:
            text = json.loads(path.read_text(encoding="utf-8"))
            given = [
                Given(v["item"], v["question"], v["value"], float(v["time"])) for v in text["votes"]
            ]
            rater, study = text["rater"], text["study"]
            if not all(math.isfinite(answer.time) for answer in given):
                raise ValueError("a time is not finite")
        except OSError as error:
            raise UserError(
                f"import={str(path)!r}: cannot be read ({error.strerror}); check the path"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"import={str(path)!r}: is no file of votes ({error!r}); give one that the page let"
                " its rater download"
            ) from None
        try:
            self.add(rater, study, given)
        except Refused as error:
            raise UserError(f"import={str(path)!r}: {error.reason}") from None
        return len(given)


def rater_name(name: Any) -> str:
    """A name as it is kept: NFC, single spaces. Errors: Refused."""
    kept = " ".join(unicodedata.normalize("NFC", name).split()) if isinstance(name, str) else ""
    if not 1 <= len(kept) <= LONGEST or not kept.isprintable():
        raise Refused(
            422, f"rater={name!r}: must be a name of 1 to {LONGEST} printable characters; give one"
        )
    return kept


def posted(body: Mapping[str, Any]) -> list[Given]:
    """The answers of one item as the page sends them. Errors: Refused."""
    values = body.get("values")
    if not isinstance(values, dict) or not values:
        raise Refused(400, "values: must hold an answer to a question; reload the page")
    return [
        Given(body.get("item"), question, value, time.time()) for question, value in values.items()
    ]
