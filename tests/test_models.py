"""The registry, torchvision's loading code, and the vectors that come out."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COLOURS, SHAPES, cosines, draw, seeded_weights

from datasette_image_search import models, pictures
from datasette_image_search.errors import ModelError
from datasette_image_search.models import runtime, torchvision_zoo
from datasette_image_search.models.interface import Weights
from datasette_image_search.models.packed import PackedConvolution, can_pack
from datasette_image_search.models.torchvision_zoo import ZOO


@pytest.fixture(scope="module")
def batch():
    drawn = [draw(shape, colour) for shape in SHAPES for colour in list(COLOURS)[:3]]
    return drawn, np.stack([pictures.fit(one, pictures.Geometry(224)) for one in drawn])


@pytest.fixture(scope="module")
def resnet50(torch_home):
    seeded_weights("resnet50", torch_home)
    model = models.get("resnet50")
    return model, model.find_weights()


def published_recipe(drawn):
    """torchvision's own code: Resize((224, 224)), ToTensor, Normalize, avgpool's output."""
    import torch
    import torchvision
    from torchvision import transforms

    network = torchvision.models.resnet50(weights="IMAGENET1K_V1").eval()
    pooled = torch.nn.Sequential(*list(network.children())[:-1])
    prepare = transforms.Compose(
        [
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.inference_mode():
        return pooled(torch.stack([prepare(one) for one in drawn])).flatten(1).numpy()


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_resnet50_gives_the_features_of_the_published_recipe(resnet50, batch, precision):
    drawn, pixels = batch
    model, weights = resnet50
    assert (weights.name, weights.path.name) == ("IMAGENET1K_V1", "resnet50-0676ba61.pth")
    vectors = model.load(weights, "cpu", precision).embed(pixels)
    assert vectors.shape == (12, 2048) and vectors.dtype == np.float32
    expected = published_recipe(drawn)
    assert cosines(vectors, expected).min() >= 0.9999
    if precision == "fp32":
        assert np.allclose(vectors, expected, rtol=1e-3, atol=1e-4)


def test_the_ranking_by_resnet50_is_that_of_brute_force(resnet50, batch, tmp_path):
    from datasette_image_search.vector_index import Identity, SidecarWriter

    model, weights = resnet50
    vectors = model.load(weights, "cpu").embed(batch[1])
    for metric in ("cosine", "l2"):
        facts = Identity("resnet50", weights.sha256, "squash 224", 2048, metric)
        with SidecarWriter(tmp_path / metric, facts) as index:
            index.add(np.arange(12), vectors)
            index.save()
            for number, found in enumerate(index.search(vectors, 12)):
                if metric == "cosine":
                    far = -cosines(vectors, vectors[number][None].repeat(12, 0))
                else:
                    far = np.linalg.norm(vectors - vectors[number], axis=1)
                assert np.allclose(far[found.ids], np.sort(far), atol=1e-5)
                assert found.ids[0] == number


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.id)
def test_each_line_of_the_zoo_agrees_with_torchvision(entry):
    import torchvision

    official = torchvision.models.get_model_weights(entry.id)[entry.default_weights]
    assert official.url.rpartition("/")[2] == entry.default_file
    assert entry.input_size == official.transforms().crop_size[0]
    assert tuple(official.transforms().mean) == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "swin_t", "efficientnet_b0"]
)
def test_families_of_the_zoo_give_the_width_they_promise(name, torch_home, batch):
    seeded_weights(name, torch_home)
    model = models.get(name)
    weights = model.find_weights()
    full = model.load(weights, "cpu", "fp32").embed(batch[1][:4])
    assert full.shape == (4, model.dimensions)
    auto = model.load(weights, "cpu", "auto").embed(batch[1][:4])
    assert cosines(full, auto).min() >= 0.999


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_each_precision_works_on_a_cpu(precision, batch):
    """Whatever the processor has: oneDNN packs bf16 and fp16 on some alone."""
    model = models.get("mini")
    square = batch[1][:3, :160, :160]
    vectors, full = (
        model.load(model.find_weights(), "cpu", name).embed(square) for name in (precision, "fp32")
    )
    assert cosines(vectors, full).min() >= 0.999


BF16 = [
    # AMX, AVX-512, Intel: is bf16 the faster one?
    (True, True, True, "bf16"),
    (False, True, True, "fp32"),
    (False, True, False, "bf16"),
    (False, False, False, "fp32"),
]


@pytest.mark.parametrize(("amx", "avx512", "intel", "precision"), BF16)
@pytest.mark.parametrize("torch_is_new", [True, False])
def test_the_precision_is_the_one_that_the_processor_is_faster_in(
    monkeypatch, amx, avx512, intel, precision, torch_is_new
):
    from datasette_image_search.models import runtime

    monkeypatch.setattr(runtime, "_is_intel", lambda: intel)
    if torch_is_new:
        told = {"amx_bf16": amx, "avx512_bf16": avx512}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    else:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
        for name, has in (("amx_tile", amx), ("avx512_bf16", avx512)):
            monkeypatch.setattr(
                torch.cpu, f"_is_{name}_supported", lambda has=has: has, raising=False
            )
    chosen = runtime.choose_precision("auto", torch.device("cpu"))
    assert chosen == runtime.choose_precision(precision, torch.device("cpu"))


def test_a_torch_that_tells_nothing_of_the_processor_is_given_float32(monkeypatch):
    from datasette_image_search.models import runtime

    for name in ("get_capabilities", "_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert runtime.choose_precision("auto", torch.device("cpu")) == torch.float32


def test_the_precision_of_a_graphics_card_is_one_that_it_is_made_for(monkeypatch):
    monkeypatch.setattr(runtime, "_cpu_is_faster_in_bf16", lambda: True)
    for name, expected in (("native", torch.bfloat16), ("emulated", torch.float16)):
        # Unless it is asked otherwise, torch says yes to both.
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, name=name: including_emulation or name == "native",
        )
        assert runtime.choose_precision("auto", torch.device("cuda")) == expected
    assert runtime.choose_precision("auto", torch.device("mps")) == torch.float32


def test_the_processors_maker_is_known():
    from datasette_image_search.models import runtime

    if not sys.platform.startswith("linux"):
        pytest.skip("asked otherwise there")
    with open("/proc/cpuinfo") as told:
        assert runtime._is_intel() == ("GenuineIntel" in told.read())


@pytest.mark.skipif(not can_pack(), reason="this torch has no oneDNN")
def test_a_network_on_a_cpu_is_packed(resnet50, batch):
    model, weights = resnet50
    network = model.load(weights, "cpu")
    first, again, one = (network.embed(batch[1][:count]) for count in (6, 6, 1))
    assert np.array_equal(first, again) and cosines(first[:1], one).min() > 0.9999
    layers = list(network._module.modules())
    packed = [layer for layer in layers if isinstance(layer, PackedConvolution)]
    assert len(packed) == 53 and all(layer._packed[1] is not None for layer in packed)


class Sharing:
    """A network for as many batches at a time."""

    def __init__(self, at_once):
        self.at_once = at_once


@pytest.mark.parametrize(("processors", "at_once", "each"), [(5, 2, 3), (4, 4, 1), (3, 1, 3)])
def test_batches_at_a_time_share_the_processors(processors, at_once, each):
    import torch

    def seen(barrier=None):
        if barrier:
            barrier.wait(10)  # so that no thread has two turns
        return torch.get_num_threads()

    def elsewhere():
        with ThreadPoolExecutor(1) as another:
            return another.submit(seen).result()

    before = torch.get_num_threads()
    torch.set_num_threads(processors)
    try:
        with models.workers(Sharing(at_once)) as threads:
            barrier = threading.Barrier(at_once)
            assert list(threads.map(seen, [barrier] * at_once)) == [each] * at_once
            with models.workers(Sharing(2)):
                pass  # which ends sooner, and has found what was changed
            assert elsewhere() == each
        assert seen() == elsewhere() == processors
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.id)
def test_every_number_of_a_network_comes_from_its_weights(entry):
    """It is built without any (on "meta"): what a file lacks would have none."""
    network = torchvision_zoo._architecture(entry.id)
    stored = network.state_dict()
    assert {name for name, _ in network.named_buffers()} <= set(stored)
    assert {name for name, _ in network.named_parameters()} <= set(stored)


def test_another_set_of_weights_is_here_once_it_was_downloaded(torch_home, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = models.get("resnet50")
    assert not model.weights_here("IMAGENET1K_V2")
    file = tmp_path / "hub/checkpoints/resnet50-11ad3fa6.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"the real loading code looks into it later")
    assert model.weights_here("IMAGENET1K_V2") and not model.weights_here()
    assert model.find_weights("IMAGENET1K_V2").path == file
    with pytest.raises(ModelError, match="neither a file nor a set of weights"):
        model.weights_here("IMAGENET1K_V9")


def test_a_file_of_ones_own_may_be_called_as_ours_is(tmp_path, monkeypatch):
    import torch

    shipped = models.get("mini").find_weights()
    monkeypatch.chdir(tmp_path)
    own = torch.load(shipped.path, weights_only=True)
    own["head.bias"] += 1
    torch.save(own, "mini.pt")
    found = models.get("mini").find_weights("mini.pt")
    assert found.path.resolve() == tmp_path / "mini.pt" and found.sha256 != shipped.sha256
    assert models.get("mini").find_weights(shipped.name) == shipped


def out_of_memory(device):
    """As torch says it; on a CPU really."""
    import torch

    if device == "cpu":
        torch.empty(2**50)
    if device == "cuda":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    raise RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB).")


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_device_without_enough_memory_is_said_plainly(monkeypatch, device):
    import torch

    from datasette_image_search.models import runtime

    class Large(torch.nn.Module):
        def to(self, *_, **__):
            out_of_memory(device)

    elsewhere = "" if device == "cpu" else ", or --device cpu"
    model = models.get("mini")
    network = model.load(model.find_weights(), "cpu")
    monkeypatch.setattr(network, "device", torch.device(device))
    monkeypatch.setattr(network, "_run", lambda _: out_of_memory(device))
    with pytest.raises(ModelError) as caught:
        network.embed(np.zeros((7, 8, 8, 3), np.uint8))
    assert str(caught.value) == (
        f"7 pictures at a time need more memory than the device {device} has: "
        f"try a smaller --batch-size{elsewhere}."
    )
    with pytest.raises(ModelError, match=r"^one picture needs .* a smaller model"):
        network.embed(np.zeros((1, 8, 8, 3), np.uint8))
    monkeypatch.setattr(runtime, "choose_device", torch.device)
    with pytest.raises(ModelError) as caught:
        runtime.Network(Large(), device=device, precision="fp32")
    assert str(caught.value) == (
        f"the network needs more memory than the device {device} has: "
        f"try a smaller model{elsewhere}."
    )


def test_what_a_network_fails_of_otherwise_is_not_taken_for_that():
    model = models.get("mini")
    network = model.load(model.find_weights(), "cpu")
    with pytest.raises(RuntimeError, match="size"):
        network.embed(np.zeros((1, 160, 160, 4), np.uint8))


def test_weights_from_a_file(torch_home, tmp_path, batch):
    import torch

    official = torch_home / "hub/checkpoints/resnet18-f37072fd.pth"
    mine = tmp_path / "mine.pt"
    state = torch.load(official, weights_only=True)
    wrapped = {"state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(wrapped, mine)
    model = models.get("resnet18")
    ours, theirs = model.find_weights(str(mine)), model.find_weights()
    assert ours.sha256 != theirs.sha256
    pixels = batch[1][:2]
    one, other = (model.load(weights, "cpu").embed(pixels) for weights in (ours, theirs))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "swin_t"])
def test_a_network_trained_further_may_have_another_classifier(name, torch_home, tmp_path, batch):
    import torch
    import torchvision

    model, mine = models.get(name), tmp_path / "mine.pt"
    state = torch.load(seeded_weights(name, torch_home), weights_only=True)
    for key, value in torchvision.models.get_model(name, num_classes=10).state_dict().items():
        if key.startswith(f"{model.cut}."):
            state[key] = value
    torch.save(state, mine)
    ours, theirs = model.find_weights(str(mine)), model.find_weights()
    assert ours.sha256 == hashlib.sha256(mine.read_bytes()).hexdigest() != theirs.sha256
    one, other = (model.load(weights, "cpu").embed(batch[1][:1]) for weights in (ours, theirs))
    assert np.array_equal(one, other)


def test_a_network_of_another_shape_is_not_taken_for_one_trained_further(torch_home, tmp_path):
    import torch

    model, mine = models.get("resnet18"), tmp_path / "mine.pt"
    state = torch.load(seeded_weights("resnet18", torch_home), weights_only=True)
    for name in ("fcs.weight", "conv1.weight"):
        torch.save(state | {name: state["fc.weight"]}, mine)
        with pytest.raises(ModelError, match=rf"does not fit resnet18: .*{name}.*\.$"):
            model.load(model.find_weights(str(mine)), "cpu")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(torch_home, tmp_path, number):
    """A ReLU after them may make zeros of them, which look like any picture's vector."""
    import torch

    state = torch.load(seeded_weights("resnet18", torch_home), weights_only=True)
    state["layer4.1.conv2.weight"][0, 0, 0, 0] = number
    compiled = {f"_orig_mod.{name}": value for name, value in state.items()}
    torch.save({"model_state_dict": compiled}, tmp_path / "mine.pt")
    model = models.get("resnet18")
    said = r"mine\.pt are damaged: layer4\.1\.conv2\.weight has numbers that are not finite\."
    with pytest.raises(ModelError, match=said):
        model.load(model.find_weights(str(tmp_path / "mine.pt")), "cpu")


def test_a_small_file_is_no_large_network(tmp_path):
    path = tmp_path / "own.pt"
    torch.save({"weight": torch.zeros(1).expand(2**40)}, path)  # of 4 TB, in a kilobyte
    with pytest.raises(ModelError, match="more memory than the file has bytes"):
        models.get("mini").load(Weights("own.pt", path, ""))
    torch.save({"weight": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as saved, zipfile.ZipFile(tmp_path / "packed.pt", "w", 8) as packed:
        for part in saved.infolist():
            packed.writestr(part.filename, saved.read(part), zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="are compressed: save them with torch.save"):
        models.get("mini").load(Weights("own.pt", tmp_path / "packed.pt", ""))


def test_weights_that_share_their_numbers_are_read(torch_home, tmp_path):
    state = torch.load(models.get("mini").find_weights().path, weights_only=True)
    name = next(name for name, value in state.items() if value.is_floating_point())
    torch.save({"state_dict": state, "also": {name: state[name]}}, tmp_path / "own.pt")
    assert models.get("mini").load(Weights("own.pt", tmp_path / "own.pt", ""))


@pytest.mark.parametrize("size", [0, 9 * 10**9])
def test_weights_have_a_size_that_weights_have(tmp_path, size):
    path = tmp_path / "own.pt"
    path.touch()
    os.truncate(path, size)
    with pytest.raises(ModelError, match=f"have {size:,} bytes"):
        models.get("mini").find_weights(str(path))


def test_weights_that_grow_while_they_are_read_are_read_no_further(tmp_path, monkeypatch):
    path = tmp_path / "own.pt"
    path.write_bytes(b"x" * 10)
    before = path.stat()
    path.write_bytes(b"x" * 11)
    monkeypatch.setattr(Path, "stat", lambda self, **_: before)
    with pytest.raises(ModelError, match="changed while they were read"):
        models.get("mini").find_weights(str(path))


def test_a_file_without_named_tensors_is_no_state_dict(tmp_path):
    import torch

    file, model, number = tmp_path / "mine.pt", models.get("resnet18"), torch.zeros(1)
    for held in ({0: number}, {"state_dict": {0: number}}, {"epoch": 3}, {}, [number]):
        torch.save(held, file)
        with pytest.raises(ModelError, match=r"mine\.pt holds a .*, not a state dict\.$"):
            model.load(model.find_weights(str(file)), "cpu")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_weights_are_read_as_programs_save_them(tmp_path, wrapper, prefix):
    state = {f"{prefix}a": torch.ones(2, dtype=torch.float16), f"{prefix}count": torch.tensor(3)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "mine.pt")
    found = runtime.read_state_dict(tmp_path / "mine.pt")
    kinds = {name: value.dtype for name, value in found.items()}
    assert kinds == {"a": torch.float32, "count": torch.int64}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "/somewhere/cache"},
        {"TORCH_HOME": "~/networks"},
        {"TORCH_HOME": "/elsewhere", "XDG_CACHE_HOME": "/somewhere/cache"},
    ],
)
def test_weights_are_looked_for_where_torch_keeps_them(monkeypatch, variables):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert torchvision_zoo._cache_folder() == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("ResNet-50", "resnet50"),
        ("resnet5", "resnet50"),
        ("ViT-B/16", "vit_b_16"),
        ("Mini", "mini"),
    ],
)
def test_a_model_of_nearly_that_name_is_asked_about(asked, meant):
    with pytest.raises(ModelError) as caught:
        models.get(asked)
    assert f"{asked!r} (did you mean {meant}?); there are mini, " in str(caught.value)


def test_what_cannot_be_had_is_said_in_one_sentence(torch_home, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"no embedding model 'clip'; there are mini, resnet50"):
        models.get("clip")
    with pytest.raises(ModelError, match="neither a file nor a set of weights for resnet18"):
        models.get("resnet18").find_weights("nope.pt")
    with pytest.raises(ModelError, match=r"no file 'IMAGENET1K_V2' with weights for mini: "):
        models.get("mini").find_weights("IMAGENET1K_V2")
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"not weights")
    model = models.get("resnet18")
    with pytest.raises(ModelError, match=r"bad\.pt does not hold weights .* state_dict\(\)\.$"):
        model.load(model.find_weights(str(bad)), "cpu")
    seeded_weights("mobilenet_v3_small", torch_home)
    other = torch_home / "hub/checkpoints/mobilenet_v3_small-047dcff4.pth"
    with pytest.raises(
        ModelError, match=r'does not fit resnet18: missing key.* "[\w.]+", and more\.$'
    ):
        model.load(model.find_weights(str(other)), "cpu")
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no cuda device"):
        model.load(model.find_weights(), "cuda")


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """No network: a proxy that refuses at once stands in for a cable that is out."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        models.get("resnet34").find_weights()
    said = str(caught.value)
    assert "https://download.pytorch.org/models/resnet34-b627a593.pth" in said
    assert str(tmp_path / "hub/checkpoints/resnet34-b627a593.pth") in said
    assert "--model mini" in said and "\n" not in said


@pytest.mark.parametrize("terminal", [False, True])
def test_a_download_is_told_on_stderr(torch_home, tmp_path, monkeypatch, capsys, terminal):
    """All is torch's own code, but that the file comes from this machine."""
    import torch

    source, download = seeded_weights("resnet18", torch_home), torch.hub.download_url_to_file

    def from_here(url, path, hash_prefix, progress):
        download(source.as_uri(), path, None, progress)

    monkeypatch.setattr(torch.hub, "download_url_to_file", from_here)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert models.get("resnet18").find_weights(progress=True).path.is_relative_to(tmp_path)
    told = capsys.readouterr()
    first, bar = told.err.split("\n", 1)
    assert told.out == "" and "resnet18-f37072fd.pth" in first
    assert ("\r" in bar) == terminal == bool(bar)


def test_a_mini_needs_no_torch_to_be_known():
    from datasette_image_search.models import mini

    model = models.get("mini")
    assert (model.dimensions, model.input_size) == (mini.DIMENSIONS, mini.INPUT_SIZE)
    assert model.weights_here()
