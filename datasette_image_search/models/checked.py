"""What a network gives, checked before it is believed: other plugins bring networks too."""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from .interface import LoadedModel


def vectors(network: LoadedModel, pixels: np.ndarray, id: str, dimensions: int) -> np.ndarray:
    """Vectors (n × dimensions float32) of n × size × size × 3 uint8 pictures.

    ``id`` is the model's. Raises :class:`ModelError` where that is not what it gives.
    """
    made = network.embed(pixels)
    try:
        with np.errstate(over="ignore"):
            made = np.asarray(made, np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the model {id!r} gives no array of numbers: {error}.") from error
    promised = (len(pixels), dimensions)
    if made.shape != promised:
        raise ModelError(
            f"the model {id!r} gives {_shown(made.shape)} numbers where {_shown(promised)} "
            "were promised."
        )
    if not np.isfinite(made).all():
        raise ModelError(
            f"the model {id!r} gives numbers that are not finite: its weights are damaged, "
            "or the precision does not suit it (try --precision fp32)."
        )
    return made


def _shown(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "no"
