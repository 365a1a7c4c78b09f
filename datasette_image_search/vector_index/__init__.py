"""Vectors by id, on disk, with search: the only room that names FAISS.

Its verbs are few, so that another engine can stand behind them:
``Sidecar(path, identity)`` opens for reading (``search``, ``vectors``, ``contains``,
``ids``), ``SidecarWriter`` for writing (``add``, ``remove``, ``save``).
"""

from .copying import copying
from .discard import discarding
from .engine import CHOICES, choose
from .identity import METRICS, Identity
from .leftover import Leftover
from .leftover import kept as kept_leftover
from .mending import mend, problems
from .sidecar import EmptySidecar, Sidecar, SidecarWriter
from .snapshot import Neighbours, compare

__all__ = [
    "CHOICES",
    "METRICS",
    "EmptySidecar",
    "Identity",
    "Leftover",
    "Neighbours",
    "Sidecar",
    "SidecarWriter",
    "choose",
    "compare",
    "copying",
    "discarding",
    "kept_leftover",
    "mend",
    "problems",
]
