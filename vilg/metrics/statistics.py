"""Mean and covariance of features that come in batches: all that FID needs of a set of pictures, in
memory that does not grow with the set.

A reference set's statistics are computed once, stored in a file and shared. All numbers are
float64."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.linalg.blas import dsyrk  # type: ignore[attr-defined]

from vilg.types import UserError

# rows that wait to be added together, so that a small batch costs no pass over the d x d matrix
WAITING_ROWS = 512


@dataclasses.dataclass
class FeatureStatistics:
    """Count, mean [d] and scatter [d, d] (the sum of outer products of deviations from the mean) of
    the rows added so far.

    `identity` says where the features come from: extractor, preprocessing, source. Batches are
    joined by the parallel update of Chan, Golub and LeVeque (1979), which subtracts no large
    numbers, so that batch sizes and order change the result by rounding only."""

    width: int
    identity: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._count = 0
        self._mean = np.zeros(self.width)
        # only the upper triangle, which BLAS updates in place
        self._scatter = np.zeros((self.width, self.width), order="F")
        self._waiting: list[np.ndarray] = []

    def update(self, batch: Float[np.ndarray, "n d"]) -> None:
        """Adds rows. Errors: UserError for rows of another width, or for a row that is not finite,
        with its index among all rows added.
        """
        if batch.ndim != 2 or batch.shape[1] != self.width:
            raise UserError(
                f"features of shape {batch.shape}: this set has width {self.width}; give the same"
                " extractor's"
            )
        check_finite(batch, self.count)
        self._waiting.append(np.array(batch, np.float64))
        if sum(map(len, self._waiting)) >= WAITING_ROWS:
            self._add_waiting()

    def _add_waiting(self) -> None:
        """Adds the waiting rows to the sums."""
        if self._waiting:
            rows = np.concatenate(self._waiting)
            self._waiting = []
            mean = rows.mean(0)
            rows -= mean
            self._join(len(rows), mean, rows)

    def _join(self, count: int, mean: np.ndarray, deviations: np.ndarray) -> None:
        """Adds `count` rows of this mean, whose scatter is deviations^T deviations."""
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
        """Adds another set's rows, so that shards give the same statistics as one pass. Errors:
        UserError for features of another width.
        """
        if other.width != self.width:
            raise UserError(
                f"features of width {other.width}: this set has width {self.width}; give the same"
                " extractor's"
            )
        self._add_waiting()
        other._add_waiting()
        self._scatter += other._scatter
        self._join(other._count, other._mean, np.zeros((1, self.width)))

    @property
    def count(self) -> int:
        """The number of rows added."""
        return self._count + sum(map(len, self._waiting))

    @property
    def mean(self) -> Float[np.ndarray, " d"]:
        """The mean row."""
        self._add_waiting()
        return self._mean

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased covariance (divided by count - 1, as in np.cov and pytorch-fid). Errors:
        UserError for fewer than two rows.
        """
        self._add_waiting()
        if self._count < 2:
            raise UserError(
                f"images: {self._count} in the set, and a covariance needs at least 2; give more"
                " pictures"
            )
        upper = np.triu(self._scatter) / (self._count - 1)
        upper += np.triu(upper, 1).T
        return upper

    def save(self, path: str | Path) -> None:
        """Writes an .npz file with pytorch-fid's `mu` and `sigma`, and with `count` and the
        identity. An interrupted write leaves no file at `path`.
        """
        path = Path(path)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            arrays = {"mu": self.mean, "sigma": self.covariance, "count": np.asarray(self.count)}
            arrays |= {name: np.asarray(text) for name, text in self.identity.items()}
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | Path, field: str = "reference") -> "FeatureStatistics":
        """Reads a file of `save`, or one of pytorch-fid, which has neither the number of pictures
        nor an identity: the result is then UncountedStatistics.

        Errors: UserError that names `field` for a file that holds no statistics."""
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
        identity = {name: str(value) for name, value in arrays.items() if value.ndim == 0}
        statistics = cls(len(mean), identity) if count else UncountedStatistics(len(mean), identity)
        statistics._count, statistics._mean = count, mean
        statistics._scatter = np.asfortranarray(covariance * max(count - 1, 1))
        return statistics


class UncountedStatistics(FeatureStatistics):
    """Statistics from a file that does not say how many pictures they summarize. They can be
    compared with others, but no rows can be added.
    """

    def update(self, batch: Float[np.ndarray, "n d"]) -> None:
        """Errors: UserError, always."""
        raise UserError(
            "these statistics do not say of how many pictures they are, so none can be added;"
            " compute them anew"
        )

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The covariance as it stands in the file."""
        return self._scatter


def check_finite(features: Float[np.ndarray, "n d"], first: int = 0) -> None:
    """Errors: UserError for a row with a NaN or an infinity; the message has the row's index,
    counted from `first`.
    """
    finite = np.isfinite(features).all(1)
    if not finite.all():
        raise UserError(
            f"features of picture {first + int(np.argmin(finite))}: not finite; check that picture"
            " and the extractor's weights"
        )
