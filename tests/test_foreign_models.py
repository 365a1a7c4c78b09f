"""Models of other plugins: what they give is checked before it is made durable."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import build_shop

from datasette_image_search import catalog
from datasette_image_search.collection import Collection, EmbedOptions, embed, repair, verify
from datasette_image_search.collection.query_pictures import picture_vector
from datasette_image_search.errors import ModelError, UsageError
from datasette_image_search.models import Weights


class Foreign:
    """Vectors of the mean colours of three parts of a picture, spoilt by ``spoil``."""

    id = "foreign"
    dimensions = 9
    input_size = 9
    description = "for these tests"
    batch_size = 8

    def __init__(self, spoil=lambda vectors: vectors):
        self.spoil = spoil

    def weights_here(self, name=None):
        return True

    def find_weights(self, name=None, *, progress=False):
        return Weights("none", None, "0")

    def load(self, weights, device="auto", precision="auto"):
        return self

    def embed(self, pixels):
        parts = pixels.reshape(len(pixels), 3, 27, 3).mean(axis=2)
        return self.spoil(parts.reshape(len(pixels), 9) - 128)


SPOILT = {
    "too narrow": (lambda vectors: vectors[:, 1:], "gives {n} × 8 numbers where {n} × 9 were"),
    "one too few": (lambda vectors: vectors[1:], "gives {m} × 9 numbers where {n} × 9 were"),
    "one after the other": (lambda vectors: vectors.ravel(), "gives .* where {n} × 9 were"),
    "one number": (lambda vectors: 1.0, "gives no numbers where {n} × 9 were promised"),
    "ragged": (lambda vectors: [[1], [1, 2]], "gives no array of numbers"),
    "nothing": (lambda vectors: None, "gives no numbers where {n} × 9 were promised"),
    "not a number": (lambda vectors: vectors * np.nan, "gives numbers that are not finite"),
    "beyond float32": (lambda vectors: vectors * 1e300, "gives numbers that are not finite"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_vector_is_refused_and_nothing_lost(tmp_path, how):
    spoil, said = SPOILT[how]
    shop = build_shop(tmp_path / "shop")
    database, options = shop / "shop.db", EmbedOptions(model="foreign")
    calls = []

    def spoil_the_second(vectors):
        calls.append(len(vectors))
        return vectors if len(calls) == 1 else spoil(vectors)

    with pytest.raises(ModelError, match="the model 'foreign' " + said.format(n=8, m=7)):
        embed(database, "products", options, extra_models=[Foreign(spoil_the_second)])
    conn = catalog.connect(database)
    assert all(finding.sound for finding in verify(conn)) and repair(database) == []
    assert embed(database, "products", extra_models=[Foreign()]).embedded == 16
    found = Collection.open(conn, "products")
    assert len(found.similar_to_row((1,), 30)) == 23
    picture = (shop / "pictures" / "red-disc.png").read_bytes()
    with pytest.raises(ModelError, match="the model 'foreign' " + said.format(n=1, m=0)):
        # A network that is loaded is kept, by its device.
        picture_vector(picture, found.record, shop, [Foreign(spoil)], how)
    conn.close()


def test_a_model_that_promises_another_width_than_before(tmp_path):
    database = build_shop(tmp_path / "shop") / "shop.db"
    promised = Foreign()
    promised.dimensions = 10
    with pytest.raises(ModelError, match="gives 8 × 9 numbers where 8 × 10 were promised"):
        embed(database, "products", EmbedOptions(model="foreign"), extra_models=[promised])
    with pytest.raises(UsageError, match="has vectors of 10 .* makes 9 now: give --replace"):
        embed(database, "products", extra_models=[Foreign()])
    again = EmbedOptions(replace=True)
    assert embed(database, "products", again, extra_models=[Foreign()]).embedded == 24
