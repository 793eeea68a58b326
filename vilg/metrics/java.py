"""METEOR and SPICE, which exist only as Java programs: run through pycocoevalcap where that can be
done, else `Unavailable` with the reason.

Separate because they are optional, slow to start (METEOR reads 60 MB of paraphrases), and may fail
in ways of their own; a score that cannot be computed must not cost the others."""

import contextlib
import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Texts = Mapping[int, list[str]]  # item -> tokens joined by spaces

SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class Unavailable(Exception):
    """A metric cannot be computed here; the message is the reason."""


def require_java(name: str) -> None:
    """Errors: Unavailable without a `java` on PATH."""
    if shutil.which("java") is None:
        raise Unavailable(
            f"{name} is a Java program and there is no `java` on PATH; install a Java runtime"
            " (Debian: default-jre-headless)"
        )


def meteor(references: Texts, predictions: Texts) -> tuple[float, list[float]]:
    """METEOR 1.5 with its English settings: (of the corpus, which is not the mean, of each item).
    Errors: Unavailable.
    """
    require_java("METEOR")
    from pycocoevalcap.meteor.meteor import Meteor

    clean = [
        {i: [t.replace("|||", " ") for t in texts] for i, texts in side.items()}
        for side in (references, predictions)
    ]
    try:
        with ending(Meteor()) as scorer:
            score, scores = scorer.compute_score(*clean)
    except (OSError, ValueError) as error:  # it died, or said something that is no number
        raise Unavailable(
            f"METEOR's Java program failed ({type(error).__name__}: {error}); it needs 2 GB of"
            " memory"
        ) from None
    return score, scores


@contextlib.contextmanager
def ending(scorer: Any) -> Iterator[Any]:
    """The scorer, whose process is ended; its own __del__ would wait for ever on the lock that a
    failure leaves held.
    """
    try:
        yield scorer
    finally:
        if scorer.lock.locked():
            scorer.lock.release()
        scorer.meteor_p.kill()
        for pipe in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        scorer.meteor_p.wait()


def spice(references: Texts, predictions: Texts) -> tuple[float, list[float]]:
    """SPICE 1.0: (mean over items, of each item). Errors: Unavailable; nothing is downloaded."""
    require_java("SPICE")
    import pycocoevalcap.spice

    library = Path(pycocoevalcap.spice.__file__).parent / "lib"
    missing = [name for name in SPICE_MODELS if not (library / name).is_file()]
    if missing:
        raise Unavailable(
            f"SPICE's parser needs {' and '.join(missing)} in {library}; `python -m"
            " pycocoevalcap.spice.get_stanford_models` fetches them"
        )
    from pycocoevalcap.spice.spice import Spice

    try:
        score, items = Spice().compute_score(references, predictions)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            f"SPICE's Java program failed ({type(error).__name__}: {error}); it needs Java 8 and 8"
            " GB of memory"
        ) from None
    scores = [float(item["All"]["f"]) for item in items]
    if not math.isfinite(score):
        raise Unavailable(
            f"SPICE gave no number for {sum(not math.isfinite(s) for s in scores)} of {len(scores)}"
            " items"
        )
    return float(score), scores
