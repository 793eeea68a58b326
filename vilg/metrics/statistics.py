"""Mean and covariance of features that come in batches: what FID needs of a set of pictures, in
memory that does not grow with it.

Separate from frechet.py because a reference set's statistics are computed once, kept in a file and
shared. Everything is float64."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg.blas import dsyrk  # type: ignore[attr-defined]

from vilg.types import UserError

ROWS = 512  # that are held back, so that a small batch does not cost a pass over the d x d matrix


@dataclasses.dataclass
class FeatureStatistics:
    """Count, mean [d] and scatter [d, d] (the sum of outer products of deviations from the mean) of
    the rows seen so far.

    `identity` says whose features they are: extractor, preprocessing, source. Batches are joined by
    the parallel update of Chan, Golub and LeVeque (1979), which subtracts no large numbers, so the
    result depends on neither batch sizes nor order beyond rounding."""

    width: int
    identity: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._count = 0
        self._mean = np.zeros(self.width)
        self._scatter = np.zeros(
            (self.width, self.width), order="F"
        )  # its upper triangle, which BLAS adds to in place
        self._held: list[np.ndarray] = []

    def update(self, batch: Float[np.ndarray, "n d"]) -> None:
        """Takes in rows. Errors: UserError for another width, or a row that is not finite (with its
        index in the whole stream).
        """
        if batch.ndim != 2 or batch.shape[1] != self.width:
            raise UserError(
                f"features of shape {batch.shape}: this set has width {self.width}; give the same"
                " extractor's"
            )
        check_finite(batch, self.count)
        self._held.append(np.array(batch, np.float64))
        if sum(map(len, self._held)) >= ROWS:
            self._settle()

    def _settle(self) -> None:
        """Moves the held rows into the sums."""
        if self._held:
            rows = np.concatenate(self._held)
            self._held = []
            mean = rows.mean(0)
            rows -= mean
            self._join(len(rows), mean, rows)

    def _join(self, count: int, mean: np.ndarray, deviations: np.ndarray) -> None:
        """Takes in `count` rows of this mean, whose scatter is deviations^T deviations."""
        if not count:
            return
        total = self._count + count
        delta = mean - self._mean
        between = np.sqrt(self._count * (count / total)) * delta
        for part in (deviations, between[None]):
            self._scatter = dsyrk(1.0, part.T, beta=1.0, c=self._scatter, overwrite_c=True)
        self._mean = self._mean + delta * (count / total)
        self._count = total

    def merge(self, other: "FeatureStatistics") -> None:
        """Takes in another set's rows: shards that were computed apart give what one pass gives.
        Errors: UserError for another extractor's.
        """
        if other.width != self.width:
            raise UserError(
                f"features of width {other.width}: this set has width {self.width}; give the same"
                " extractor's"
            )
        self._settle()
        other._settle()
        self._scatter += other._scatter
        self._join(other._count, other._mean, np.zeros((1, self.width)))

    @property
    def count(self) -> int:
        """Rows seen."""
        return self._count + sum(map(len, self._held))

    @property
    def mean(self) -> Float[np.ndarray, " d"]:
        """The mean row."""
        self._settle()
        return self._mean

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased covariance (divided by count - 1, as np.cov and pytorch-fid do). Errors:
        UserError for fewer than two rows.
        """
        self._settle()
        if self._count < 2:
            raise UserError(
                f"images: {self._count} in the set, and a covariance needs at least 2; give more"
                " pictures"
            )
        upper = np.triu(self._scatter) / (self._count - 1)
        upper += np.triu(upper, 1).T
        return upper

    def save(self, path: str | Path) -> None:
        """Writes an .npz: pytorch-fid's `mu` and `sigma`, with `count` and the identity beside
        them. A torn write leaves no file.
        """
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            arrays: dict[str, Any] = {
                name: np.asarray(text) for name, text in self.identity.items()
            }
            np.savez(
                file, mu=self.mean, sigma=self.covariance, count=np.int64(self.count), **arrays
            )
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | Path, field: str = "reference") -> "FeatureStatistics":
        """Reads what `save` wrote, or pytorch-fid's own files, which say neither how many pictures
        nor whose features (count 0 then).

        Errors: UserError naming `field` for a file that holds no statistics.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            mean, covariance = (
                np.asarray(arrays.pop(name), np.float64) for name in ("mu", "sigma")
            )
            count = int(arrays.pop("count", 0))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{field}={str(path)!r}: holds no statistics ({error}); give an .npz with mu and"
                " sigma"
            ) from None
        if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape):
            raise UserError(
                f"{field}={str(path)!r}: mu has shape {mean.shape} and sigma {covariance.shape};"
                " give [d] and [d, d]"
            )
        check_finite(mean[None], 0)
        check_finite(covariance, 0)
        made = cls(
            len(mean), {name: str(value) for name, value in arrays.items() if value.ndim == 0}
        )
        made._count, made._mean = count, mean
        made._scatter = np.asfortranarray(covariance * max(count - 1, 1))
        return made if count else Anonymous.of(made)


class Anonymous(FeatureStatistics):
    """Statistics of a file that does not say how many pictures they are of: to be compared with,
    not to be added to.
    """

    @classmethod
    def of(cls, made: FeatureStatistics) -> "Anonymous":
        """The same statistics as one of these."""
        out = cls(made.width, made.identity)
        out._mean, out._scatter = made._mean, made._scatter
        return out

    def update(self, batch: Float[np.ndarray, "n d"]) -> None:
        """Errors: UserError, always."""
        raise UserError(
            "these statistics do not say of how many pictures they are, so none can be added;"
            " compute them anew"
        )

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The covariance as the file has it."""
        return self._scatter


def check_finite(features: Float[np.ndarray, "n d"], first: int = 0) -> None:
    """Errors: UserError for a row with a NaN or an infinity, with its index counted from
    `first`.
    """
    finite = np.isfinite(features).all(1)
    if not finite.all():
        raise UserError(
            f"features of picture {first + int(np.argmin(finite))}: not finite; check that picture"
            " and the extractor's weights"
        )
