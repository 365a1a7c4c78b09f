"""Which embedding models there are: ours, torchvision's, and other plugins'."""

from __future__ import annotations

from ..errors import ModelError
from .interface import EmbeddingModel
from .mini_model import MiniModel
from .torchvision_zoo import ZOO

DEFAULT_MODEL = "resnet50"


def models(extra: list[EmbeddingModel] | None = None) -> dict[str, EmbeddingModel]:
    """Every model by id; ``extra`` are those that plugins registered."""
    found: dict[str, EmbeddingModel] = {MiniModel.id: MiniModel()}
    found.update((model.id, model) for model in ZOO)
    found.update((model.id, model) for model in extra or [])
    return found


def get(id: str, extra: list[EmbeddingModel] | None = None) -> EmbeddingModel:
    """The model of that id; raises :class:`ModelError` naming those there are."""
    every = models(extra)
    if id not in every:
        raise ModelError(f"there is no embedding model {id!r}; there are {', '.join(every)}.")
    return every[id]
