"""torchvision's classification networks, each cut before its classifier.

A network's features are what its classifier would have been given: for ResNet-50 the
2048 means of the last feature maps (global average pooling). Sources: torchvision's
model pages and the papers named there.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from ..errors import ModelError
from .interface import NO_DOWNLOAD, Weights, file_sha256


@dataclass(frozen=True)
class ZooModel:
    """One architecture: ``cut`` is the layer that becomes the identity."""

    id: str
    dimensions: int
    cut: str
    default_weights: str
    default_file: str
    description: str
    input_size: int = 224

    def knows_weights(self, name: str) -> bool:
        if name == self.default_weights:
            return True
        if not name.isidentifier():  # most files: torchvision takes long to import
            return False
        import torchvision

        return name in torchvision.models.get_model_weights(self.id).__members__

    def weights_here(self, name: str | None = None) -> bool:
        if name in (None, self.default_weights):
            return (_cache_folder() / self.default_file).is_file()
        return self._is_file(name) or _file_of(self._entry(name)).is_file()

    def find_weights(self, name: str | None = None, *, progress: bool = False) -> Weights:
        if name in (None, self.default_weights) and self.weights_here():
            path = _cache_folder() / self.default_file
            return Weights(self.default_weights, path, file_sha256(path))
        name = name or self.default_weights
        if self._is_file(name):
            path = Path(name)
            return Weights(path.name, path, file_sha256(path))
        entry = self._entry(name)
        path = _file_of(entry)
        if not path.is_file():
            self._download(entry, path, progress)
        return Weights(entry.name, path, file_sha256(path))

    def _is_file(self, name: str) -> bool:
        return not self.knows_weights(name) and os.path.isfile(name)

    def _entry(self, name: str):
        import torchvision

        every = torchvision.models.get_model_weights(self.id)
        try:
            return every[name.upper().rpartition(".")[2]]
        except KeyError:
            names = ", ".join(weights.name for weights in every)
            raise ModelError(
                f"{name!r} is neither a file nor a set of weights for {self.id}; "
                f"torchvision has {names}."
            ) from None

    def _download(self, entry, path: Path, progress: bool) -> None:
        bar = progress and sys.stderr.isatty()
        try:
            with redirect_stdout(sys.stderr):  # torch's line on it: stdout is for answers
                entry.get_state_dict(progress=bar, check_hash=True)
        except Exception as error:  # URLError, a wrong hash, a full disk, a proxy's page
            reason = getattr(error, "reason", None) or error
            raise ModelError(
                f"the weights {entry.name} of {self.id} could not be downloaded from "
                f"{entry.url} ({reason}): put the file at {path}, name one with --weights, "
                f"or use --model {NO_DOWNLOAD}, which needs no download."
            ) from error

    def load(self, weights: Weights, device: str = "auto", precision: str = "auto"):
        from .runtime import Network, Normalised, does_not_fit, read_state_dict

        network = _architecture(self.id)
        # Cut before it is filled: trained further, it may have a classifier for other classes.
        _replace_by_identity(network, self.cut)
        state = {
            name: tensor
            for name, tensor in read_state_dict(weights.path).items()
            if not name.startswith(f"{self.cut}.")
        }
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise does_not_fit(weights.path, self.id, error) from None
        module = Normalised(network)
        return Network(module, device=device, precision=precision)


def _architecture(id: str):
    """A network whose numbers are still to come."""
    import torch
    import torchvision

    try:
        with torch.device("meta"):  # draws no numbers, which would take as long as reading them
            return torchvision.models.get_model(id, weights=None)
    except NotImplementedError:  # a RegNet's widths are computed with tensors
        return torchvision.models.get_model(id, weights=None)


def _replace_by_identity(network, path: str) -> None:
    import torch

    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, torch.nn.Identity())


def _cache_folder() -> Path:
    """Where ``torch.hub`` keeps checkpoints, by its own rules but without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints"


def _file_of(entry) -> Path:
    """Where one of torchvision's sets of weights is, or would be downloaded to."""
    return _cache_folder() / os.path.basename(urlparse(entry.url).path)


# Widths, cuts and file names are facts of torchvision; a test holds them against it.
_V1, _V2 = "IMAGENET1K_V1", "IMAGENET1K_V2"
ZOO = (
    ZooModel("resnet50", 2048, "fc", _V1, "resnet50-0676ba61.pth", "the classic recipe"),
    ZooModel("resnet18", 512, "fc", _V1, "resnet18-f37072fd.pth", "the classic, small"),
    ZooModel("resnet34", 512, "fc", _V1, "resnet34-b627a593.pth", "the classic, medium"),
    ZooModel("resnet101", 2048, "fc", _V1, "resnet101-63fe2227.pth", "the classic, deep"),
    ZooModel(
        "mobilenet_v3_small", 576, "classifier", _V1,
        "mobilenet_v3_small-047dcff4.pth", "made for phones, very fast",
    ),
    ZooModel(
        "mobilenet_v3_large", 960, "classifier", _V2,
        "mobilenet_v3_large-5c1a4163.pth", "made for phones, fast",
    ),
    ZooModel(
        "efficientnet_b0", 1280, "classifier", _V1,
        "efficientnet_b0_rwightman-7f5810bc.pth", "few parameters",
    ),
    ZooModel(
        "efficientnet_v2_s", 1280, "classifier", _V1,
        "efficientnet_v2_s-dd5fe13b.pth", "strong, sees 384 pixels", 384,
    ),
    ZooModel(
        "convnext_tiny", 768, "classifier.2", _V1,
        "convnext_tiny-983f1562.pth", "modern and strong",
    ),
    ZooModel(
        "convnext_small", 768, "classifier.2", _V1,
        "convnext_small-0c510722.pth", "modern, stronger, slower",
    ),
    ZooModel(
        "regnet_y_3_2gf", 1512, "fc", _V2, "regnet_y_3_2gf-9180c971.pth", "strong for its speed"
    ),
    ZooModel("swin_t", 768, "head", _V1, "swin_t-704ceda3.pth", "transformer of windows"),
    ZooModel("vit_b_16", 768, "heads", _V1, "vit_b_16-c867db91.pth", "vision transformer, large"),
)  # fmt: skip
