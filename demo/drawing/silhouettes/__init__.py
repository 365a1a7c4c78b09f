"""The products themselves: each function builds one kind out of clay.

Every kind comes in a few forms. ``skin`` is what the product is known for,
``trim`` what its straps, lids, legs and piping are made of.
"""

from .carry import backpack, bear, handbag, notebook
from .room import armchair, basket, chair, clock, cushion, lamp, plant
from .table import bottle, bowl, candle, mug, plate, teapot, vase
from .wear import hat, sneaker, t_shirt, watch

SILHOUETTES = {
    "mug": mug, "bowl": bowl, "plate": plate, "teapot": teapot, "vase": vase, "bottle": bottle,
    "candle": candle, "cushion": cushion, "chair": chair, "armchair": armchair, "lamp": lamp,
    "clock": clock, "basket": basket, "plant": plant, "t-shirt": t_shirt, "sneaker": sneaker,
    "watch": watch, "hat": hat, "handbag": handbag, "backpack": backpack, "notebook": notebook,
    "soft toy": bear,
}  # fmt: skip
