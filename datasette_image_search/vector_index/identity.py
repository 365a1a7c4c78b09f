"""What made the vectors of an index: checked before anything else is believed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ..errors import SidecarError, SidecarMismatch

METRICS = ("cosine", "l2")


@dataclass(frozen=True)
class Identity:
    """The facts two sets of vectors must share to be compared.

    ``weights`` is the SHA-256 of the weights file, ``preprocessing`` a short text
    such as ``squash 224``, ``dimensions`` the width of one vector, ``metric`` one
    of ``cosine`` (vectors are stored with length 1) and ``l2`` (stored as they are).
    """

    model: str
    weights: str
    preprocessing: str
    dimensions: int
    metric: str

    def as_dict(self) -> dict:
        return asdict(self)

    def refuse_other(self, found: Identity, where: str) -> None:
        """Raise :class:`SidecarMismatch`, with both values, where ``found`` differs."""
        for name, expected in self.as_dict().items():
            actual = getattr(found, name)
            if actual != expected:
                raise SidecarMismatch(
                    f"{where} was made with {name} {actual!r}, but the collection "
                    f"expects {name} {expected!r}: run 'datasette image-search repair' "
                    "on the database, or restore the file that belongs to it."
                )

    def refuse_unfit(self, vectors: np.ndarray, count: int, where: str) -> None:
        """Raise :class:`SidecarError` where these are not ``count`` vectors with a length."""
        expected = (count, self.dimensions)
        if vectors.shape != expected:
            raise SidecarError(
                f"{where} takes vectors of shape {expected} here, but was given {vectors.shape}."
            )
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(vectors, axis=1)
        if not np.isfinite(lengths).all():
            raise SidecarError(
                f"{where} was given vectors with numbers that are not finite, or too large."
            )
