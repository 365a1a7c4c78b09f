"""The hook through which another plugin adds embedding models."""

import sys

from pluggy import HookspecMarker

hookspec = HookspecMarker("datasette")


@hookspec
def register_image_models(datasette):
    """A list of objects like ``datasette_image_search.models.EmbeddingModel``.

    ``datasette`` is the server's instance, or None on the command line, which knows
    installed plugins alone and none of ``--plugins-dir``: docs/models.md shows one.
    """


def registered_models(datasette=None) -> list:
    """The embedding models of all other plugins, through the hook."""
    from datasette.plugins import pm

    if getattr(pm.hook, "register_image_models", None) is None or not (
        pm.hook.register_image_models.has_spec()
    ):
        pm.add_hookspecs(sys.modules[__name__])
    lists = pm.hook.register_image_models(datasette=datasette)
    return [model for models in lists for model in models or []]
