"""A sidecar that was there before the first row of the collection that goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..vector_index import SidecarWriter, kept_leftover
from .progress import Progress


@contextmanager
def beside_leftover(
    index: SidecarWriter, has_just_begun: bool, progress: Progress
) -> Iterator[None]:
    """Go on with the vectors that lie there, and lose none that another database may want."""
    leftover = kept_leftover(index, has_just_begun)
    if leftover is None:
        yield
        return
    name, aside = index.path.name, leftover.path.name
    progress.tell(
        f"into {name}, which was here before this collection: its vectors of the same pictures are "
        f"used. Until the end it is kept as {aside} too."
    )
    yield
    if leftover.settle():
        progress.tell(
            f"into {name}: most of the vectors that were in it are of other pictures, so {aside} "
            "stays. Give it its name back if its database comes back; else delete it."
        )
