"""embed() and similar(): the only room that sees all five below it."""

from .ahead import ReadAhead
from .choosing import EmbedOptions
from .embedding import Summary, embed
from .evaluation import Evaluation, evaluate
from .forgetting import forget
from .indexing import rebuild_index
from .loading import load
from .mending import Finding, repair, verify
from .progress import Progress
from .query_pictures import picture_vector
from .search import DEFAULT_K, MAX_K, Collection, Match, as_text, check_k, figure_names, finite
from .status import CollectionStatus, status

__all__ = [
    "DEFAULT_K",
    "MAX_K",
    "Collection",
    "CollectionStatus",
    "EmbedOptions",
    "Evaluation",
    "Finding",
    "Match",
    "Progress",
    "ReadAhead",
    "Summary",
    "as_text",
    "check_k",
    "embed",
    "evaluate",
    "figure_names",
    "finite",
    "forget",
    "load",
    "picture_vector",
    "rebuild_index",
    "repair",
    "status",
    "verify",
]
