"""Validation records with their captions, no two with the same one: what evaluators that tell
records apart by captions look at.
"""

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
    """n records that have all of the languages, evenly spaced among the first 16 n. Errors:
    UserError, naming the field that holds n, where the validation source has fewer."""
    experiment, found, seen = model.experiment, [], set()
    source = experiment.data.valid
    stream = experiment.data.loader.once(
        source, None, image_size=experiment.image_codec.image_size, batch_size=min(64, len(source))
    )
    for batch in stream:
        for image, record, valid in zip(
            batch["image"], batch["records"], batch["valid"], strict=True
        ):
            captions = {
                c["language"]: c["text"] for c in reversed(record["captions"])
            }  # the first wording of each language
            captions = {g: captions[g] for g in languages if g in captions}
            if valid and len(captions) == len(languages) and seen.isdisjoint(captions.values()):
                seen |= set(captions.values())
                found.append(Pair(image, captions))
        if len(found) >= 16 * n:
            break
    if len(found) < n:
        which = (
            f"in {languages[0]}" if len(languages) == 1 else f"in each of {', '.join(languages)}"
        )
        raise UserError(
            f"{field}={n}: the validation source has {len(found)} different records with a caption"
            f" {which}; give fewer"
        )
    return [found[i * len(found) // n] for i in range(n)]
