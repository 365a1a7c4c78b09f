"""``mini``: the small network that ships in this package, so needs no download."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ModelError
from .interface import Weights, file_sha256

_FILE = Path(__file__).with_name("mini.pt")
_OURS = "mini"  # what its weights are called; anything else is a file of the user's
_BATCH_SIZE = 32  # at least: a batch of a network so small is soon done


class MiniModel:
    """Trained from scratch by ``training/``; ``docs/mini.md`` is its model card."""

    id = "mini"
    dimensions = 256
    input_size = 160
    description = "ships with the plugin, small and fast"

    def knows_weights(self, name: str) -> bool:
        return name == _OURS

    def weights_here(self, name: str | None = None) -> bool:
        return os.path.isfile(self._path(name))

    def find_weights(self, name: str | None = None, *, progress: bool = False) -> Weights:
        path = self._path(name)
        if not os.path.isfile(path):
            raise ModelError(
                f"there is no file {str(path)!r} with weights for {self.id}: "
                "name one with --weights."
            )
        return Weights(_OURS if path == _FILE else path.name, path, file_sha256(path))

    @staticmethod
    def _path(name: str | None) -> Path:
        # Collections of before call ours by its file's name.
        ours = name in (None, _OURS) or (name == _FILE.name and not os.path.isfile(name))
        return _FILE if ours else Path(name)

    def load(self, weights: Weights, device: str = "auto", precision: str = "auto"):
        from . import mini
        from .runtime import Network, does_not_fit, read_state_dict

        network = mini.build_network()
        try:
            network.load_state_dict(read_state_dict(weights.path))
        except RuntimeError as error:
            raise does_not_fit(weights.path, self.id, error) from None
        network = Network(mini.FromBytes(network), device=device, precision=precision)
        network.batch_size = max(network.batch_size, _BATCH_SIZE)
        return network
