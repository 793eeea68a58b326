"""Votes in SQLite, STUDY/votes.sqlite: one row for the answer of a rater to a question about an
item. The latest answer counts.

Every vote is on the disk before the rater reads that it is saved. Each call opens a connection of
its own, so that any thread and any process may write. A file belongs to one study, whose id it
holds."""

import json
import math
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

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
    """A vote that is refused, with an HTTP status and a sentence."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Answer(NamedTuple):
    """An answer as it comes in, unchecked; `time` in seconds since 1970."""

    item: object
    question: object
    value: object
    time: float


class Votes:
    """The votes of one study."""

    def __init__(self, path: Path, study: Study):
        """Opens or makes the file. Errors: UserError for a file of another study, or one that is
        no SQLite file.
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
        """A transaction that may write from its start; it is committed if nothing is raised."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:  # executescript has ended the transaction
                db.execute("COMMIT")

    def add(self, rater: object, study: object, answers: Sequence[Answer]) -> None:
        """Stores a rater's answers, all or none. Errors: Refused, with the reason."""
        if study != self.study.id:
            raise Refused(
                409,
                f"study={study!r}: these votes are of another study than this one"
                f" ({self.study.id}); open its own page",
            )
        name = rater_name(rater)
        for answer in answers:
            self.check(answer)
        with self.connection() as db:
            known = {row[0] for row in db.execute("SELECT DISTINCT rater FROM votes")}
            if name not in known and len(known) >= self.study.raters:
                raise Refused(
                    403,
                    f"rater={name!r}: this study has its {self.study.raters} raters; use the name"
                    " you began with, or raise --raters",
                )
            db.executemany(UPSERT, [(name, *answer) for answer in answers])

    def check(self, answer: Answer) -> None:
        """Errors: Refused for an item, question or value that the study does not have."""
        item, question, value, _ = answer
        if not isinstance(item, str) or item not in self.items:
            raise Refused(404, f"item={item!r}: this study has no such item; reload the page")
        if not isinstance(question, str) or question not in self.values:
            known = ", ".join(self.values)
            raise Refused(422, f"question={question!r}: this study asks {known}; reload the page")
        if type(value) is not int or value not in self.values[question]:
            allowed = ", ".join(map(str, sorted(self.values[question])))
            raise Refused(
                422,
                f"value={value!r}: {question} is answered by one of {allowed}; reload the page",
            )

    def of(self, rater: object) -> dict[str, dict[str, dict[str, int]]]:
        """A rater's votes as the page stores them: {item: {"values": {question: value}}}."""
        name = rater_name(rater)
        votes: dict[str, dict[str, dict[str, int]]] = {}
        with self.connection() as db:
            for item, question, value in db.execute(
                "SELECT item, question, value FROM votes WHERE rater = ?", (name,)
            ):
                votes.setdefault(item, {"values": {}})["values"][question] = value
        return votes

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
        """Adds the votes of a file that a rater downloaded from the page; their number. Errors:
        UserError for a file that is none, and for votes that are refused.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            answers = [
                Answer(vote["item"], vote["question"], vote["value"], float(vote["time"]))
                for vote in content["votes"]
            ]
            rater, study = content["rater"], content["study"]
            if not all(math.isfinite(answer.time) for answer in answers):
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
            self.add(rater, study, answers)
        except Refused as error:
            raise UserError(f"import={str(path)!r}: {error.reason}") from None
        return len(answers)


def rater_name(name: object) -> str:
    """A rater's name in its stored form: Unicode's NFC, single spaces. Errors: Refused."""
    stored = " ".join(unicodedata.normalize("NFC", name).split()) if isinstance(name, str) else ""
    if not 1 <= len(stored) <= LONGEST or not stored.isprintable():
        raise Refused(
            422, f"rater={name!r}: must be a name of 1 to {LONGEST} printable characters; give one"
        )
    return stored


def posted(body: Mapping[str, object]) -> list[Answer]:
    """The answers of one item, from the request of the page. Errors: Refused."""
    values = body.get("values")
    if not isinstance(values, dict) or not values:
        raise Refused(400, "values: must hold an answer to a question; reload the page")
    now = time.time()
    return [Answer(body.get("item"), question, value, now) for question, value in values.items()]
