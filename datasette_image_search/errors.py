"""Everything that can go wrong and that a user can do something about.

    ImageSearchError            one plain sentence, with the values in it
    ├── UsageError              the request makes no sense as it stands
    ├── NotFound                a database, table, column, row or collection that is not there
    ├── SourceError             a row's picture cannot be read
    ├── PictureError            the bytes are not a picture we can show
    ├── DecoderError            no process can be started to decode pictures in
    ├── ModelError              a model is unknown, or its weights cannot be had
    ├── CatalogError            the database cannot be read or written
    │   └── CatalogInterrupted  a killed writer's work must be undone first, and cannot be here
    ├── SidecarError            the FAISS file cannot be used
    │   ├── SidecarMissing
    │   ├── SidecarDamaged
    │   └── SidecarMismatch     sound, but made by something else
    ├── TooLarge                over a limit that the configuration sets
    ├── TooSlow                 not here in the time that the configuration sets
    └── Busy                    somebody else is at it; try again later

The sentence is the whole message: the command line prints it on stderr, the
server puts it on the page or into the JSON with the class's ``status``.
"""

from .wording import visible


class ImageSearchError(Exception):
    """One plain sentence for the user; ``status`` is its HTTP status.

    Names from data stand in it: what in them would act on a terminal or in a log is
    written out.
    """

    status = 400

    def __str__(self) -> str:
        return visible(super().__str__())


class UsageError(ImageSearchError):
    """The request makes no sense as it stands."""


class NotFound(ImageSearchError):
    """A database, table, column, row or collection that is not there."""

    status = 404


class SourceError(ImageSearchError):
    """A row's picture cannot be read from where the row says it is."""


class PictureError(ImageSearchError):
    """The bytes are not a picture that can be decoded."""


class DecoderError(ImageSearchError):
    """No process can be started to decode pictures in."""

    status = 500


class ModelError(ImageSearchError):
    """A model is unknown, or its weights cannot be had."""

    status = 500


class CatalogError(ImageSearchError):
    """The database cannot be read or written."""

    status = 500


class CatalogInterrupted(CatalogError):
    """A killed writer's work must be undone before the database is read, and cannot be here."""

    status = 503


# What visitors of a server are told of it; the commands have more to say.
HALF_WRITTEN = (
    "a program was killed while it wrote to this database, and what it left half done "
    "cannot be undone here: the server may not write to the file."
)


class SidecarError(ImageSearchError):
    """The collection's FAISS file cannot be used."""

    status = 500


class SidecarMissing(SidecarError):
    """The collection's FAISS file is not where it should be."""


class SidecarDamaged(SidecarError):
    """The collection's FAISS file is not what was written."""


class SidecarMismatch(SidecarError):
    """The collection's FAISS file is sound, but something else made it."""


class TooLarge(ImageSearchError):
    """Over a limit that the configuration sets."""

    status = 413


class TooSlow(ImageSearchError):
    """Not all of it came in the time that the configuration sets."""

    status = 408


class Busy(ImageSearchError):
    """Somebody else is at it; the same request may succeed later."""

    status = 503
