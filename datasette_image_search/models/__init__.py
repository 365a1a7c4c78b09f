"""Embedding models: from a batch of RGB pictures to vectors. The only room that names torch.

Nothing here imports torch until a network is built: what a model is called, how wide
its vectors are and whether its weights are on this machine is known without it.
"""

from .checked import vectors
from .interface import NO_DOWNLOAD, EmbeddingModel, LoadedModel, Weights, knows_weights
from .registry import DEFAULT_MODEL, get, models
from .workers import batches_at_once, workers

__all__ = [
    "DEFAULT_MODEL",
    "NO_DOWNLOAD",
    "EmbeddingModel",
    "LoadedModel",
    "Weights",
    "batches_at_once",
    "get",
    "knows_weights",
    "models",
    "vectors",
    "workers",
]
