"""The hook through which another plugin adds embedding models."""

from pluggy import HookspecMarker

hookspec = HookspecMarker("datasette")


@hookspec
def register_image_models(datasette):
    """A list of objects like ``datasette_image_search.models.EmbeddingModel``.

    ``datasette`` is the server's instance, or None on the command line.
    """
