"""Validation records with their captions, no two with the same caption, for evaluators that tell
records apart by their captions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vilg.evals.base import EvaluatedModel
from vilg.types import UserError


class Pair(NamedTuple):
    """A record's picture, uint8 [H, W, 3], with its caption in each language."""

    image: np.ndarray
    captions: dict[str, str]


def captioned_records(
    model: EvaluatedModel, n: int, languages: Sequence[str], field: str
) -> list[Pair]:
    """n records with a caption in each of the languages, evenly spaced among the first 16 n.

    Errors: UserError, which names the field that holds n, where the validation source has fewer."""
    experiment, pairs, seen = model.experiment, [], set()
    source = experiment.data.valid
    stream = experiment.data.loader.once(
        source, None, image_size=experiment.image_codec.image_size, batch_size=min(64, len(source))
    )
    for batch in stream:
        for image, record, valid in zip(
            batch["image"], batch["records"], batch["valid"], strict=True
        ):
            # reversed: the first caption of each language is the one that stays
            first_captions = {c["language"]: c["text"] for c in reversed(record["captions"])}
            captions = {g: first_captions[g] for g in languages if g in first_captions}
            if valid and len(captions) == len(languages) and seen.isdisjoint(captions.values()):
                seen |= set(captions.values())
                pairs.append(Pair(image, captions))
        if len(pairs) >= 16 * n:
            break
    if len(pairs) < n:
        where = languages[0] if len(languages) == 1 else f"each of {', '.join(languages)}"
        raise UserError(
            f"{field}={n}: the validation source has {len(pairs)} different records with a caption"
            f" in {where}; give fewer"
        )
    return [pairs[i * len(pairs) // n] for i in range(n)]
