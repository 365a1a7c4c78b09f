"""Which embedding models there are: ours, torchvision's, and other plugins'."""

from __future__ import annotations

from difflib import get_close_matches

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
        plain = {_plain(known): known for known in every}
        near = [plain[name] for name in get_close_matches(_plain(id), plain, n=1, cutoff=0.75)]
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ModelError(
            f"there is no embedding model {id!r}{meant}; there are {', '.join(every)}."
        )
    return every[id]


def _plain(id: str) -> str:
    """As other libraries may spell it: ResNet-50."""
    return "".join(letter for letter in id.lower() if letter.isalnum())
