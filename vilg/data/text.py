"""Text <-> ids: a SentencePiece BPE model with byte fallback for Chinese and English, trained from
a data set's captions.

Separate because the model file belongs to a run (its sha256 is stored there and refused on
mismatch) and both directions of every generator need it. A row of text is [start id of its
language, pieces ..., end, pad ...]; pad is 0, and what a model does at padded positions (PAPERS
2.3: a learned vector a position) is left to the model.

A model trained with tags has six more control symbols, `[a]` to `[r]` after the end's id, one a
class of key words (PAPERS 1.6); no text encodes to them, only `mark` puts them in, and decoding
leaves them out."""

import collections
import functools
import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sentencepiece

from vilg.data.records import HAN, LANGUAGES, detect_language
from vilg.data.tagging import CLASSES
from vilg.paths import as_path
from vilg.types import END, PAD, START, UNKNOWN, UserError

__all__ = [
    "END",
    "PAD",
    "RESERVED",
    "START",
    "TAGS",
    "UNKNOWN",
    "TextModel",
    "detect_language",
    "train_text_model",
]

RESERVED = 5 + 256  # the control symbols and the bytes that every model has
CONTROLS = {"<start_zh>": START["zh"], "<start_en>": START["en"], "<end>": END}
TAGS = {
    name: END + 1 + i for i, name in enumerate(CLASSES)
}  # class of key words -> its special token, in a model with tags
DELIMITER = "\x1f"
BLANK = " \u2581"  # what SentencePiece writes as its word-start mark
AROUND_HAN = re.compile(rf"(?<={HAN.pattern})(?=\S)|(?<=\S)(?={HAN.pattern})")


@dataclass(frozen=True)
class TextModel:
    """A trained text model by the path of its file. Opened at first use; picklable."""

    path: str

    def __post_init__(self):
        if not as_path(self.path).is_file():
            raise UserError(
                f"text model path={self.path!r}: there is no such file; train it with"
                " train_text_model"
            )

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of the model file, in hex."""
        return hashlib.sha256(as_path(self.path).read_bytes()).hexdigest()

    @functools.cached_property
    def processor(self) -> sentencepiece.SentencePieceProcessor:
        """The SentencePiece processor; a UserError if the file is not a model that train_text_model
        wrote.
        """
        try:
            processor = sentencepiece.SentencePieceProcessor(
                model_proto=as_path(self.path).read_bytes()
            )
        # SentencePiece raises RuntimeError, OSError or SystemError as it finds the file
        except Exception as error:
            raise UserError(
                f"text model path={self.path!r}: not a SentencePiece model ({error}); train it"
                " again"
            ) from None
        if processor.pad_id() != PAD or any(
            processor.piece_to_id(piece) != id for piece, id in CONTROLS.items()
        ):
            raise UserError(
                f"text model path={self.path!r}: lacks vilg's control symbols; train it with"
                " train_text_model"
            )
        return processor

    @functools.cached_property
    def size(self) -> int:
        """The number of ids; may be smaller than was asked for."""
        return self.processor.get_piece_size()

    @functools.cached_property
    def space(self) -> int:
        """The id of the lone word-start mark."""
        return self.processor.piece_to_id("\u2581")

    @functools.cached_property
    def tags(self) -> dict[str, int]:
        """Class of key words -> id of its special token; empty for a model that was trained without
        them.
        """
        known = self.size > max(
            TAGS.values()
        )  # a piece "[n]" learnt from captions is no control symbol and has a later id
        known = known and all(
            self.processor.is_control(id) and self.processor.id_to_piece(id) == f"[{name}]"
            for name, id in TAGS.items()
        )
        return dict(TAGS) if known else {}

    def encode(self, text: str, language: str, length: int) -> tuple[np.ndarray, bool]:
        """(int32 [length]: start id, pieces, end, pads; whether pieces were cut off to fit). The
        end id is always there.
        """
        pieces = self.processor.encode(text)
        if (
            pieces and pieces[0] == self.space
        ):  # SentencePiece puts a space before Chinese too; decoding does not need it
            pieces = pieces[1:]
        truncated = len(pieces) > length - 2
        if truncated:
            pieces = pieces[: length - 2]
        ids = np.zeros(length, np.int32)
        ids[0] = START[language]
        ids[1 : 1 + len(pieces)] = pieces
        ids[1 + len(pieces)] = END
        return ids, truncated

    def mark(
        self,
        text: str,
        language: str,
        length: int,
        words: Sequence[tuple[int, int, str]],
        tags: bool = True,
        tags_are_key: bool = False,
    ) -> tuple[np.ndarray, bool, np.ndarray]:
        """`encode` with key words: (ids, truncated, bool [length], True at the pieces of the
        words).

        `words` are (first character, one after the last, class); with `tags` the class's special
        token stands before a word's first piece, and with `tags_are_key` it counts as a piece of
        the word. Without the special tokens the row is `encode`'s."""
        pieces = self.processor.encode(text)
        place = np.cumsum(
            [0, *(0 if c in BLANK else len(c.encode("utf-8")) for c in text)]
        )  # bytes before a character, without blanks
        spans = [(int(place[start]), int(place[stop]), name) for start, stop, name in words]
        row: list[tuple[int, bool]] = []
        begin, waiting = 0, sorted(spans)
        for k, piece in enumerate(pieces):
            if k == 0 and piece == self.space:
                continue
            end = begin + (
                1
                if self.processor.is_byte(piece)
                else len(self.processor.id_to_piece(piece).replace("\u2581", "").encode("utf-8"))
            )
            while waiting and waiting[0][0] < end:
                row += [(self.tags[waiting[0][2]], tags_are_key)] if tags else []
                waiting = waiting[1:]
            row.append((piece, any(start < end and begin < stop for start, stop, _ in spans)))
            begin = end
        truncated = len(row) > length - 2
        row = row[: length - 2]
        while truncated and row and row[-1][0] in self.tags.values():  # its word was cut off
            row = row[:-1]
        ids, key = np.zeros(length, np.int32), np.zeros(length, np.bool_)
        ids[0] = START[language]
        ids[1 : 1 + len(row)] = [id for id, _ in row]
        ids[1 + len(row)] = END
        key[1 : 1 + len(row)] = [k for _, k in row]
        return ids, truncated, key

    def decode(self, ids: Sequence[int] | np.ndarray) -> tuple[str, str | None]:
        """(text, language or None) of a row: what stands between the start id and the first end or
        pad.

        Ids that the model does not have (a sampler over a padded vocabulary can draw them) and
        stray start ids read as U+FFFD."""
        row = [int(i) for i in ids]
        language = next((name for name, id in START.items() if row and row[0] == id), None)
        if language:
            row = row[1:]
        stop = next((k for k, id in enumerate(row) if id in (END, PAD)), len(row))
        special = set(self.tags.values())
        text, run = "", []
        for id in (id for id in row[:stop] if id not in special):
            if UNKNOWN < id < self.size and id not in START.values():
                run.append(id)
            else:
                text += self.processor.decode(run) + "\ufffd"
                run = []
        return text + self.processor.decode(run), language


def train_text_model(
    captions: Iterable[str],
    vocabulary: int,
    path: str | os.PathLike[str],
    han_characters: bool = True,
    tags: bool = False,
) -> TextModel:
    """A text model of at most `vocabulary` ids trained on the captions, written to `path`
    (atomically).

    With `han_characters` no piece spans two Han characters, as in ERNIE's vocabularies; without, a
    frequent phrase becomes one piece ("一只白色的小狗" in COCO-CN at 4,000), which hides its words
    from the model. With `tags` the model has the special tokens of TAGS, which take six of the ids.

    Deterministic: one thread, no sampling. Text is not normalised beyond white space, so encode and
    decode round-trip. With a small corpus there are fewer pieces than asked for; with many
    characters for the vocabulary the rare ones become bytes. Errors: UserError for no captions or a
    vocabulary below RESERVED plus a few pieces."""
    controls = [*CONTROLS, *(f"[{name}]" for name in TAGS if tags)]
    reserved = RESERVED + len(controls) - len(CONTROLS)
    if not isinstance(vocabulary, int) or vocabulary < reserved + 8:
        raise UserError(
            f"text vocabulary={vocabulary!r}: bytes and control symbols take {reserved}; give at"
            f" least {reserved + 8}"
        )
    lines = [
        line
        for line in (" ".join(text.replace(DELIMITER, " ").split()) for text in captions)
        if line
    ]
    if not lines:
        raise UserError("text model: there are no captions to train it on; check the data source")
    lines = without_rare(
        lines, (vocabulary - reserved) * 3 // 4
    )  # at least a quarter of the pieces are left for longer ones
    if han_characters:
        lines = [AROUND_HAN.sub(DELIMITER, line) for line in lines]
    model = io.BytesIO()
    options: dict[str, Any] = dict(
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        pad_id=PAD,
        unk_id=UNKNOWN,
        bos_id=-1,
        eos_id=-1,
        control_symbols=controls,
        num_threads=1,
        shuffle_input_sentence=False,
        max_sentence_length=65536,
        minloglevel=2,
        character_coverage=1.0,
        pretokenization_delimiter=DELIMITER,
    )
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=vocabulary, **options
        )
    except Exception as error:  # SentencePiece raises RuntimeError or OSError from its C++ checks
        raise UserError(
            f"text vocabulary={vocabulary}: SentencePiece could not train on {len(lines)} captions:"
            f" {error}"
        ) from None
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(model.getvalue())
    temporary.replace(path)
    return TextModel(str(path))


def without_rare(lines: list[str], room: int) -> list[str]:
    """The lines with all but the `room` most frequent characters blanked (ties by code point):
    those will be bytes.

    SentencePiece's own character_coverage refuses to go below 0.98, which a small vocabulary on
    Chinese needs."""
    counts = collections.Counter()
    for line in lines:
        counts.update(line)
    if len(counts) <= room:
        return lines
    rare = sorted(counts, key=lambda character: (-counts[character], character))[room:]
    table = str.maketrans(dict.fromkeys(rare, " "))
    kept = [" ".join(line.translate(table).split()) for line in lines]
    return [line for line in kept if line]


assert set(START) == set(LANGUAGES)
