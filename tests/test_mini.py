"""The model that ships: its file, its vectors, and a rough check that it sees."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance

from datasette_image_search.models import mini


@pytest.fixture(scope="module")
def weights():
    return torch.load(mini.WEIGHTS_FILE, weights_only=True)


@pytest.fixture(scope="module")
def network(weights):
    network = mini.build_network()
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return network.eval()


def batch(pictures):
    """Pictures as the plugin shows them to a network: N×3×INPUT_SIZE×INPUT_SIZE."""
    size = (mini.INPUT_SIZE, mini.INPUT_SIZE)
    pixels = np.stack(
        [np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) for picture in pictures]
    )
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(mini.MEAN).view(3, 1, 1)
    return (values - mean) / torch.tensor(mini.STD).view(3, 1, 1)


def vectors(network, pictures):
    with torch.inference_mode():
        found = network(batch(pictures))
    return found / found.norm(dim=1, keepdim=True)


def drawn(seed):
    """A picture of its own: a background and some coloured shapes."""
    rng = np.random.default_rng(seed)

    def colour():
        return tuple(int(value) for value in rng.integers(0, 256, 3))

    picture = Image.new("RGB", (240, 200), colour())
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top = rng.integers(0, 180), rng.integers(0, 150)
        box = (left, top, left + rng.integers(20, 100), top + rng.integers(20, 80))
        box = tuple(int(side) for side in box)
        if rng.random() < 0.5:
            draw.ellipse(box, fill=colour())
        else:
            draw.rectangle(box, fill=colour())
    return picture


def test_from_bytes_is_the_same_network(network):
    size = mini.INPUT_SIZE
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    with torch.inference_mode():
        expected = network(batch([Image.fromarray(one) for one in pixels]))
        found = mini.FromBytes(copy.deepcopy(network))(torch.from_numpy(pixels))
    assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())


def fixed_vector():
    """The vector of a picture of 25 fields, by weights that no file has."""
    rng = np.random.default_rng(0)
    network = mini.build_network()
    for value in network.state_dict().values():
        share = 6 / (value[0].numel() if value.dim() > 1 else 10)
        value.copy_(torch.from_numpy(rng.random(value.shape) * 2 - 1) * share**0.5)
    fields = torch.from_numpy(rng.integers(0, 256, (5, 5, 3), np.uint8))
    side = mini.INPUT_SIZE // 5
    picture = fields.repeat_interleave(side, 0).repeat_interleave(side, 1)
    with torch.inference_mode():
        return mini.FromBytes(network.eval())(picture[None])[0]


def test_the_same_weights_make_the_same_vectors_as_ever():
    """What is fixed in the code: a collection knows its vectors by the file of weights alone, and
    would mix two kinds. Where these figures change, the weights that ship must."""
    vector = fixed_vector()
    first = [-1.340, 14.823, 9.051, -2.345, 13.065, 3.525, 8.032, 0.198]
    assert vector[:8].tolist() == pytest.approx(first, abs=0.01)
    assert float(vector.norm()) == pytest.approx(103.362, abs=0.01)


def test_pooling_is_a_mean_that_leans_to_the_middle():
    pool = mini.Pool(3)
    maps = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(pool.train()(maps), maps.mean(dim=(2, 3)), atol=1e-6)
        pool.eval()
        assert torch.allclose(pool(torch.full((1, 3, 5, 7), 2.5)), torch.tensor(2.5))
        alone = torch.eye(35).view(35, 1, 5, 7).expand(-1, 3, -1, -1)  # one position each
        weights = pool(alone)[:, 0].view(5, 7)
        assert torch.allclose(weights.sum(), torch.tensor(1.0))
        assert weights.argmax() == 17 and torch.allclose(weights, weights.flip(0, 1))
        pool.score[0, 1] = 9.0  # where the second channel is, there it looks
        maps[:, 1] = 0
        maps[:, 1, 0, 6] = 1
        assert torch.allclose(pool(maps), maps[:, :, 0, 6], atol=0.1)


def test_weights_file_is_small():
    assert mini.WEIGHTS_FILE.stat().st_size <= 4_000_000


def test_weights_are_half_precision_and_finite(weights):
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_vectors_have_the_promised_width_and_are_finite(network):
    found = vectors(network, [drawn(1), drawn(2), Image.new("RGB", (9, 9))])
    assert found.shape == (3, mini.DIMENSIONS)
    assert mini.DIMENSIONS <= 512
    assert torch.isfinite(found).all()


def test_the_same_picture_gives_the_same_vector(network):
    once, again = vectors(network, [drawn(3)]), vectors(network, [drawn(3)])
    assert torch.equal(once, again)


def test_a_picture_has_the_same_vector_alone_and_among_others(network):
    alone = vectors(network, [drawn(4)])[0]
    among = vectors(network, [drawn(5), drawn(4), drawn(6)])[1]
    assert float(alone @ among) > 0.9999


def test_bfloat16_agrees_with_float32(network):
    pictures = batch([drawn(seed) for seed in range(8)])
    with torch.inference_mode():
        exact = network(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            quick = network(pictures).float()
    assert torch.cosine_similarity(exact, quick).min() >= 0.999


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.crop((25, 20, 215, 180)),
        lambda picture: picture.rotate(10),
        lambda picture: ImageEnhance.Brightness(picture).enhance(0.7),
        lambda picture: ImageEnhance.Color(picture).enhance(1.5),
        lambda picture: picture.resize((60, 50)),
    ],
    ids=["cropped", "rotated", "darker", "more colourful", "smaller"],
)
def test_a_changed_picture_is_nearest_to_its_origin(network, change):
    originals = [drawn(seed) for seed in range(30)]
    index = vectors(network, originals)
    changed = vectors(network, [change(picture) for picture in originals])
    nearest = (changed @ index.T).argmax(dim=1)
    assert (nearest == torch.arange(30)).float().mean() >= 0.9
