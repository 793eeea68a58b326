"""METEOR and SPICE, which exist only as Java programs. pycocoevalcap runs them; where it cannot,
`Unavailable` gives the reason.

These two metrics are separate from the others because they are optional, are slow to start (METEOR
reads 60 MB of paraphrases), and can fail in ways of their own: a failure of theirs must not cost
the other scores."""

import contextlib
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

Texts = Mapping[int, list[str]]  # item -> tokens joined by spaces

SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class Unavailable(Exception):
    """A metric cannot be computed on this machine; the message is the reason."""


def require_java(name: str) -> None:
    """Errors: Unavailable without a `java` on PATH."""
    if shutil.which("java") is None:
        raise Unavailable(
            f"{name} is a Java program and there is no `java` on PATH; install a Java runtime"
            " (Debian: default-jre-headless)"
        )


def meteor(references: Texts, predictions: Texts) -> tuple[float, list[float]]:
    """METEOR 1.5 with its English settings: the score of the corpus, which is not the mean over
    items, and the score of each item. Errors: Unavailable.
    """
    require_java("METEOR")
    from pycocoevalcap.meteor.meteor import Meteor

    clean = [
        {i: [t.replace("|||", " ") for t in texts] for i, texts in side.items()}
        for side in (references, predictions)
    ]
    try:
        scorer = Meteor()
        try:
            return scorer.compute_score(*clean)
        finally:
            # the scorer's own __del__ would wait for ever on the lock that a failure leaves held
            if scorer.lock.locked():
                scorer.lock.release()
            kill(scorer.meteor_p)
    except (OSError, ValueError) as error:  # the program died, or printed something not a number
        raise Unavailable(
            f"METEOR's Java program failed ({type(error).__name__}: {error}); it needs 2 GB of"
            " memory"
        ) from None


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and closes its pipes."""
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


def spice(references: Texts, predictions: Texts) -> tuple[float, list[float]]:
    """SPICE 1.0: the mean over items, and the score of each item.

    Nothing is downloaded. Errors: Unavailable."""
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
