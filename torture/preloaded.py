"""What a forked embed has imported when it starts; nothing that starts threads is run."""

import torch  # noqa: F401

import datasette_image_search.collection
import datasette_image_search.models  # noqa: F401
