"""embed() and similar(): the only room that sees all five below it."""

from .embedding import EmbedOptions, Progress, Summary, embed
from .loading import load
from .query_pictures import picture_vector
from .search import DEFAULT_K, MAX_K, Collection, Match, check_k
from .status import CollectionStatus, status

__all__ = [
    "Collection",
    "CollectionStatus",
    "DEFAULT_K",
    "EmbedOptions",
    "MAX_K",
    "Match",
    "Progress",
    "Summary",
    "check_k",
    "embed",
    "load",
    "picture_vector",
    "status",
]
