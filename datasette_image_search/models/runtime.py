"""A network in memory on a device: batches of uint8 pictures in, float32 vectors out."""

from __future__ import annotations

import platform
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from torch.fx.experimental.optimization import fuse

from ..errors import ModelError, UsageError
from .merged import merge
from .packed import pack

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# Pictures a batch: on a CPU, few enough that a layer's output stays in its cache.
_BATCH_SIZES = {"cpu": 8, "mps": 32, "cuda": 128}
# Batches at a time. Threads that share one wait for each other after every layer, and longest
# where decoders want the processors too; there it takes two to keep them busy.
_AT_ONCE = {"cpu": 2}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of CUDA and MPS; of a CPU, in whose message the rest differs between systems; of cuBLAS.
_OUT_OF_MEMORY = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED")


def read_state_dict(path: Path) -> dict:
    """A state dict from a file, as float32; only tensors are read, no code is run.

    Accepts the usual wrappers: ``{"state_dict": …}``, names beginning ``module.``. Numbers that
    are not finite are refused: a network that ends in a ReLU may hide them. So is a small file of
    large tensors, compressed or of one number that stands for all.
    """
    try:
        _refuse_packed(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"the weights {path} are not there.") from None
    except ModelError:
        raise
    except Exception as error:  # torch's own words, such as "105", are for its programmers
        hint = "give a file that torch.save made of a network's state_dict()"
        if isinstance(error, OSError) and error.strerror:
            hint = error.strerror.lower()
        raise ModelError(f"{path} does not hold weights that can be read: {hint}.") from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise ModelError(f"{path} holds a {type(state).__name__}, not a state dict.")
    every = [value for value in state.values() if isinstance(value, torch.Tensor)]
    if sum(value.numel() * value.element_size() for value in every) > 2 * path.stat().st_size:
        raise ModelError(f"the weights {path} would take more memory than the file has bytes.")
    tensors = {
        name.removeprefix("_orig_mod.").removeprefix("module."): value.float()
        if value.is_floating_point()
        else value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ModelError(f"{path} holds a dict without tensors that have names, not a state dict.")
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(
                f"the weights {path} are damaged: {name} has numbers that are not finite."
            )
    return tensors


def _refuse_packed(path: Path) -> None:
    """``torch.save`` compresses nothing; what has been may become any number of times as large."""
    if not zipfile.is_zipfile(path):
        return  # as before torch 1.6
    with zipfile.ZipFile(path) as file:
        if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
            raise ModelError(f"the weights {path} are compressed: save them with torch.save.")


def does_not_fit(path: Path, id: str, error: RuntimeError) -> ModelError:
    """A sentence with as much of what torch says as it can hold: of a network, that is a lot."""
    said = str(error).partition("\n")[2] or str(error)  # its first line names a class of its own
    reason = shorten(said, 300, placeholder=" and more").rstrip(" .")
    reason = reason[:1].lower() + reason[1:]
    return ModelError(f"{path} does not fit {id}: {reason}.")


def choose_device(device: str) -> torch.device:
    """The device that ``auto`` stands for: CUDA, then Apple's MPS, then the CPU."""
    if device not in DEVICES:
        raise UsageError(f"there is no device {device!r}; there are {', '.join(DEVICES)}.")
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name in here if here[name]))
    if not here[device]:
        raise ModelError(f"torch finds no {device} device on this machine: use --device cpu.")
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """bf16 where the processor is faster in it, fp32 elsewhere."""
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}; there are {', '.join(PRECISIONS)}.")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        # Where bf16 is emulated (before Ampere), fp16 is what the hardware is made for.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and _cpu_is_faster_in_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_is_faster_in_bf16() -> bool:
    """With AMX, and with what AVX-512 has of it on AMD: nearly twice as fast. Intel's without AMX
    multiplies as fast in float32, and all that is around it makes bf16 0.6 times as fast."""
    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.11 and later
        capabilities = torch.cpu.get_capabilities()
        has_amx, has_avx512 = (bool(capabilities.get(f"{n}_bf16")) for n in ("amx", "avx512"))
    else:
        # Names with an underscore, which may not be there either.
        has_amx, has_avx512 = map(_tells, ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return has_amx or (has_avx512 and not _is_intel())


def _tells(name: str) -> bool:
    supported = getattr(torch.cpu, name, None)
    return supported is not None and bool(supported())


@cache
def _is_intel() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as told:
            return "GenuineIntel" in told.read(2**12)
    except OSError:
        return "GenuineIntel" in platform.processor()


@contextmanager
def _enough_memory(device: torch.device, needs: str, smaller: str) -> Iterator[None]:
    """Says plainly where there is not: only CUDA has an exception of its own for it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not told and not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        elsewhere = "" if device.type == "cpu" else ", or --device cpu"
        raise ModelError(
            f"{needs} more memory than the device {device.type} has: try {smaller}{elsewhere}."
        ) from None


class Normalised(torch.nn.Module):
    """A network on pictures of bytes: N×H×W×3 uint8 in, as (x/255 - mean)/std to the network.

    Its batch norms are folded into its convolutions, and these do what follows them.
    """

    def __init__(
        self, network: torch.nn.Module, mean: tuple = IMAGENET_MEAN, std: tuple = IMAGENET_STD
    ):
        super().__init__()
        self.network = merge(fuse(network.eval(), inplace=True))
        scale = 1 / (255 * torch.tensor(std))
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        shift = -torch.tensor(mean) / torch.tensor(std)
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        pictures = pictures.permute(0, 3, 1, 2)  # NHWC in memory already is channels-last
        return self.network(pictures.to(torch.float32) * self.scale + self.shift)


class Network:
    """A network cut before its classifier; ``embed`` is all it does.

    ``module`` takes N×H×W×3 bytes. Channels-last memory and the precision chosen make it
    fast; the vectors stay within cosine 0.999 of float32 (a test measures it).
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        device: str = "auto",
        precision: str = "auto",
    ):
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.batch_size = _BATCH_SIZES[self.device.type]
        self.at_once = min(_AT_ONCE.get(self.device.type, 1), torch.get_num_threads())
        with _enough_memory(self.device, "the network needs", "a smaller model"):
            module = module.eval().to(self.device, memory_format=torch.channels_last)
            self._module = self._with_weights_cast(module)

    def _with_weights_cast(self, module: torch.nn.Module) -> torch.nn.Module:
        # Autocast would cast these weights again for every batch. Sums and norms stay fp32.
        for layer in module.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.to(self.dtype)
        if self.device.type == "cpu":
            pack(module)
        return module

    @torch.inference_mode()
    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Vectors (n × d float32) of n × size × size × 3 uint8 pictures."""
        needs, smaller = "one picture needs", "a smaller model"
        if len(pixels) > 1:
            needs, smaller = f"{len(pixels)} pictures at a time need", "a smaller --batch-size"
        with _enough_memory(self.device, needs, smaller):
            return self._run(np.require(pixels, requirements=("C", "W")))

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pixels).to(self.device)  # as bytes: a quarter of the way
        reduced = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if reduced else nullcontext():
            features = self._module(batch)
        return features.flatten(1).float().cpu().numpy()
