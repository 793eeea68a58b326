"""Text to ids and back: a SentencePiece BPE model with byte fallback for Chinese and English,
trained on a data set's captions.

The model file belongs to a run: the run stores its sha256 and refuses another file. A row of text
is [start id of its language, pieces ..., end, pad ...] with pad 0. Generators decide what stands at
padded positions (PAPERS 2.3: a learned vector for each position).

A model trained with tags has six more control symbols, `[a]` to `[r]`, with the ids after that of
the end; each stands for a class of key words (PAPERS 1.6). No text encodes to them: `mark` inserts
them, and `decode` leaves them out."""

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
from jaxtyping import Bool, Int32

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
# class of key words -> its special token, in a model with tags
TAGS = {name: END + 1 + i for i, name in enumerate(CLASSES)}
DELIMITER = "\x1f"  # no piece spans it in training
BLANK = " \u2581"  # characters that SentencePiece writes as its word-start mark
AROUND_HAN = re.compile(rf"(?<={HAN.pattern})(?=\S)|(?<=\S)(?={HAN.pattern})")


@dataclass(frozen=True)
class TextModel:
    """A trained text model, by the path of its file, which is opened at first use. Picklable."""

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
        """The SentencePiece processor.

        Errors: UserError if train_text_model did not write the file."""
        try:
            processor = sentencepiece.SentencePieceProcessor(
                model_proto=as_path(self.path).read_bytes()
            )
        # SentencePiece raises RuntimeError, OSError or SystemError for such files
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
        """The number of ids, which may be smaller than the vocabulary that was asked for."""
        return self.processor.get_piece_size()

    @functools.cached_property
    def word_start(self) -> int:
        """The id of the piece that is only the word-start mark."""
        return self.processor.piece_to_id("\u2581")

    @functools.cached_property
    def tags(self) -> dict[str, int]:
        """Class of key words -> id of its special token.

        It is empty for a model that was trained without special tokens."""
        # a piece "[n]" learnt from captions is no control symbol and has a later id
        known = self.size > max(TAGS.values()) and all(
            self.processor.is_control(id) and self.processor.id_to_piece(id) == f"[{name}]"
            for name, id in TAGS.items()
        )
        return dict(TAGS) if known else {}

    def encode(self, text: str, language: str, length: int) -> tuple[Int32[np.ndarray, " m"], bool]:
        """The ids of a text in `length` positions (start, pieces, end, pads), and whether pieces
        were cut off to fit. The end id is always there.
        """
        pieces = self.processor.encode(text)
        # SentencePiece puts a word start before Chinese too, which decoding does not need
        if pieces and pieces[0] == self.word_start:
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
    ) -> tuple[Int32[np.ndarray, " m"], bool, Bool[np.ndarray, " m"]]:
        """The ids of a text with key words, whether pieces were cut off to fit, and which ids are
        pieces of key words.

        `words` are (first character, one after the last, class). With `tags` the special token of
        the class stands before a word's first piece, and with `tags_are_key` it counts as a piece
        of the word. Without the special tokens the ids are those of `encode`."""
        pieces = self.processor.encode(text)
        # bytes before each character, without blanks
        before = np.cumsum([0, *(0 if c in BLANK else len(c.encode("utf-8")) for c in text)])
        spans = [(int(before[start]), int(before[stop]), name) for start, stop, name in words]
        row: list[tuple[int, bool]] = []
        begin, waiting = 0, sorted(spans)
        for k, piece in enumerate(pieces):
            if k == 0 and piece == self.word_start:
                continue
            end = begin + self.bytes_of(piece)
            while waiting and waiting[0][0] < end:
                row += [(self.tags[waiting[0][2]], tags_are_key)] if tags else []
                waiting = waiting[1:]
            row.append((piece, any(start < end and begin < stop for start, stop, _ in spans)))
            begin = end
        truncated = len(row) > length - 2
        row = row[: length - 2]
        # a special token at the end has lost its word
        while truncated and row and row[-1][0] in self.tags.values():
            row = row[:-1]
        ids, key = np.zeros(length, np.int32), np.zeros(length, np.bool_)
        ids[0] = START[language]
        ids[1 : 1 + len(row)] = [id for id, _ in row]
        ids[1 + len(row)] = END
        key[1 : 1 + len(row)] = [k for _, k in row]
        return ids, truncated, key

    def bytes_of(self, piece: int) -> int:
        """The number of bytes of text that a piece stands for, without blanks."""
        if self.processor.is_byte(piece):
            return 1
        return len(self.processor.id_to_piece(piece).replace("\u2581", "").encode("utf-8"))

    def decode(self, ids: Sequence[int] | np.ndarray) -> tuple[str, str | None]:
        """The text between the start id and the first end or pad, and its language, which is None
        without a start id.

        Ids that the model does not have (a sampler over a padded vocabulary can draw them) and
        start ids inside the text become U+FFFD."""
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


# SentencePiece's options that are the same in every model
TRAINING: dict[str, Any] = dict(
    model_type="bpe",
    byte_fallback=True,
    hard_vocab_limit=False,
    normalization_rule_name="identity",
    pad_id=PAD,
    unk_id=UNKNOWN,
    bos_id=-1,
    eos_id=-1,
    num_threads=1,
    shuffle_input_sentence=False,
    max_sentence_length=65536,
    minloglevel=2,
    character_coverage=1.0,
    pretokenization_delimiter=DELIMITER,
)


def train_text_model(
    captions: Iterable[str],
    vocabulary: int,
    path: str | os.PathLike[str],
    han_characters: bool = True,
    tags: bool = False,
) -> TextModel:
    """Trains a text model of at most `vocabulary` ids on captions and writes it to `path`, which
    appears whole or not at all.

    With `han_characters` no piece spans two Han characters, as in ERNIE's vocabularies. Without it,
    a frequent phrase becomes one piece ("一只白色的小狗" in COCO-CN at 4,000 ids), which hides its
    words from the generator. With `tags` the model has the special tokens of TAGS, which take six
    ids.

    Training is deterministic: one thread, no sampling. Text is normalised in its white space only,
    so that decoding gives back what was encoded. A small corpus gives fewer pieces than asked for;
    where the characters are many for the vocabulary, the rare ones are written as bytes. Errors:
    UserError for no captions, or for a vocabulary below RESERVED plus a few pieces."""
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
    # at least a quarter of the pieces are left for pieces of several characters
    lines = without_rare(lines, (vocabulary - reserved) * 3 // 4)
    if han_characters:
        lines = [AROUND_HAN.sub(DELIMITER, line) for line in lines]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocabulary,
            control_symbols=controls,
            **TRAINING,
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
    """The lines without the characters beyond the `room` most frequent ones (ties by code point),
    which the model will write as bytes.

    SentencePiece's own character_coverage does not go below 0.98, which a small vocabulary needs on
    Chinese."""
    counts: collections.Counter[str] = collections.Counter()
    for line in lines:
        counts.update(line)
    if len(counts) <= room:
        return lines
    rare = sorted(counts, key=lambda character: (-counts[character], character))[room:]
    blanks = str.maketrans(dict.fromkeys(rare, " "))
    cleaned = [" ".join(line.translate(blanks).split()) for line in lines]
    return [line for line in cleaned if line]


assert set(START) == set(LANGUAGES)
