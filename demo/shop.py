"""The catalogue: what the shop sells, and how each product is drawn.

Nothing is stored. Dice with fixed seeds pick families (a brand, a form, a
material) and then the colours and patterns each family comes in, so that every
build sells the same things.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from .drawing.materials import COLOURS, Skin
from .drawing.photo import Pose, photograph
from .drawing.silhouettes import SILHOUETTES

# Invented words; the number says how dear a brand is.
BRANDS = {
    "Pebblecroft": 0.75,
    "Tambrel": 0.8,
    "Ostrelle": 0.95,
    "Quillmoor": 1.0,
    "Huskvane": 1.05,
    "Lumidrift": 1.2,
    "Marrowyck": 1.3,
    "Vantolo": 1.55,
}

# Which inks look well on which ground.
INKS = {
    "white": [("navy", "poppy"), ("charcoal", "mustard"), ("denim", "sky"), ("forest", "sage")],
    "ivory": [("terracotta", "olive"), ("teal", "mustard"), ("plum", "sage"), ("denim", "poppy")],
    "sand": [("white", "terracotta"), ("navy", "ivory"), ("forest", "white")],
    "blush": [("plum", "white"), ("poppy", "ivory"), ("forest", "ivory")],
    "terracotta": [("ivory", "navy"), ("blush", "mustard"), ("white", "charcoal")],
    "poppy": [("ivory", "blush"), ("white", "navy")],
    "mustard": [("ivory", "terracotta"), ("white", "forest"), ("navy", "white")],
    "olive": [("ivory", "mustard"), ("sand", "terracotta")],
    "sage": [("ivory", "forest"), ("white", "mustard"), ("forest", "blush")],
    "forest": [("sage", "mustard"), ("ivory", "blush")],
    "teal": [("ivory", "mustard"), ("sky", "white")],
    "sky": [("white", "denim"), ("navy", "ivory"), ("ivory", "poppy")],
    "denim": [("white", "mustard"), ("sky", "ivory")],
    "navy": [("ivory", "mustard"), ("white", "poppy"), ("sky", "blush")],
    "plum": [("blush", "mustard"), ("ivory", "lilac")],
    "lilac": [("white", "plum"), ("ivory", "olive")],
    "brown": [("sand", "ivory"), ("blush", "ivory")],
    "grey": [("white", "charcoal"), ("charcoal", "mustard")],
    "charcoal": [("ivory", "mustard"), ("grey", "white")],
    "black": [("ivory", "sand"), ("white", "grey")],
}
ALL = tuple(INKS)
EARTH = ("ivory", "sand", "terracotta", "mustard", "olive", "sage", "brown", "charcoal", "blush")
HIDE = ("brown", "black", "terracotta", "sand", "forest", "navy", "plum", "olive", "blush")

PRINTS = ("striped", "dotted", "checked", "floral", "leafy", "zigzag", "scalloped", "starry")
WOVEN = ("striped", "checked", "tartan", "pinstriped", "banded")
GLAZES = ("two-tone", "speckled", "marbled", "terrazzo", "brushstroke")

# How a pattern is told: {0} second colour, {1} third.
TOLD = {
    "plain": "in one colour",
    "striped": "with stripes in {0}",
    "pinstriped": "with fine stripes in {0} and {1}",
    "banded": "with broad bands in {0} and narrow ones in {1}",
    "dotted": "with dots in {0}",
    "confetti": "strewn with flecks of {0} and {1}",
    "checked": "in a gingham check with {0}",
    "tartan": "in a tartan of {0} and {1}",
    "zigzag": "with zigzags in {0} and {1}",
    "scalloped": "with rows of fans in {0}",
    "floral": "with blossoms in {0} and {1}",
    "leafy": "with sprigs of leaves in {0} and {1}",
    "starry": "with little stars in {0}",
    "marbled": "veined like marble in {0} and {1}",
    "terrazzo": "with chips of {0} and {1}, like a terrazzo floor",
    "speckled": "speckled with {0}",
    "brushstroke": "with loose brush marks in {0} and {1}",
    "two-tone": "dipped in {0}",
}

# What a form is called, where it has a name of its own.
NOUNS = {
    "camp": "camp mug", "lumbar": "lumbar cushion", "round/cushion": "round cushion",
    "long": "long-sleeved t-shirt",
    "v-neck": "v-neck t-shirt", "saddle": "saddle bag", "tote": "tote bag", "bucket": "bucket bag",
    "runner": "running sneaker", "high-top": "high-top sneaker", "rubber": "rubber plant",
    "snake": "snake plant", "fern": "fern", "cactus": "cactus", "aloe": "aloe",
    "roll-top": "roll-top backpack", "small": "small backpack", "chrono": "chronograph watch",
    "square/watch": "square watch", "wing": "wing chair", "beanie": "beanie", "cap": "cap",
    "sun": "sun hat", "ladder": "ladder-back chair", "shell": "shell chair", "bear": "bear",
    "bunny": "bunny", "elephant": "elephant", "twin": "alarm clock", "tumbler": "tumbler",
    "tray": "basket tray", "pocket": "pocket notebook", "spiral": "spiral notebook",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One kind of product: its choices, its price, and where the camera stands.

    A trim is ``material:colour``; the colour may be ``same``, ``ink`` (the
    pattern's second colour) or ``third``.
    """

    name: str
    category: str
    price: tuple[float, float]
    forms: tuple[str, ...]
    materials: tuple[str, ...]
    patterns: tuple[str, ...]
    trims: tuple[str, ...]
    about: tuple[str, ...]
    colours: tuple[str, ...] = ALL
    repeat: float = 6.0  # size of the pattern's tile, in centimetres
    yaw: tuple[float, float] = (-20, 20)
    pitch: tuple[float, float] = (10, 18)
    fill: float = 0.70


KINDS = [
    Kind("mug", "Kitchen", (9, 24), ("straight", "tapered", "belly", "camp"),
         ("ceramic", "stoneware", "enamel"), PRINTS + GLAZES,
         ("ceramic:white", "ceramic:ivory", "ceramic:same"),
         ("Holds a generous morning coffee.", "Safe in dishwasher and microwave.",
          "The handle has room for a whole hand."), repeat=6.5, yaw=(-34, 12), pitch=(13, 24)),
    Kind("cushion", "Living room", (19, 59), ("square", "lumbar", "round"),
         ("linen", "cotton", "velvet", "wool"), PRINTS + WOVEN,
         ("cotton:same", "cotton:ink", "cotton:ivory"),
         ("The cover comes off for washing.", "Filled with recycled fibre.",
          "A hidden zip, piped edges."), repeat=26, yaw=(-24, 24), pitch=(6, 12)),
    Kind("t-shirt", "Clothing", (18, 45), ("crew", "boxy", "v-neck", "long"), ("cotton",),
         ("striped", "dotted", "floral", "starry", "banded", "leafy", "confetti"),
         ("cotton:same", "cotton:ink"),
         ("Heavy jersey that keeps its shape.", "Cut for a relaxed fit.",
          "Washed once, so it will not shrink."), repeat=26, yaw=(-5, 5), pitch=(84, 88),
         fill=0.80),
    Kind("vase", "Living room", (24, 95), ("amphora", "bottle", "ball", "column", "ribbed"),
         ("ceramic", "stoneware", "porcelain", "earthenware"),
         (*GLAZES, "zigzag", "banded", "leafy"),
         ("ceramic:same",),
         ("Watertight, for fresh flowers.", "Thrown and glazed in small batches.",
          "Stands well on its own."), repeat=13, yaw=(-40, 40), pitch=(7, 15), fill=0.74),
    Kind("handbag", "Bags", (59, 240), ("flap", "saddle", "tote", "bucket"),
         ("leather", "suede", "canvas"), ("checked", "zigzag", "tartan", "floral"),
         ("leather:same", "leather:brown", "leather:black"),
         ("Brass fittings and a cotton lining.", "An inner pocket keeps keys in reach.",
          "Softens with use."), colours=(*HIDE, "ivory", "teal", "poppy"), repeat=15,
         yaw=(12, 34), pitch=(8, 15), fill=0.76),
    Kind("sneaker", "Shoes", (49, 130), ("runner", "court", "high-top"),
         ("canvas", "leather", "suede"), ("checked", "floral", "dotted", "striped"),
         ("leather:white", "suede:same", "leather:ink"),
         ("A cushioned sole that does not mark floors.", "Sold as a pair; one shown.",
          "True to size."), repeat=9, yaw=(-30, -12), pitch=(12, 20), fill=0.78),
    Kind("lamp", "Lighting", (39, 160), ("ball", "gourd", "stem", "cone"),
         ("ceramic", "stoneware", "painted metal", "wood"),
         ("two-tone", "marbled", "speckled", "zigzag"),
         ("linen:linen", "linen:ivory", "linen:blush", "linen:sand"),
         ("Takes an ordinary screw-in bulb.", "The switch is on the cord.",
          "Gives a warm, even light."), repeat=13, pitch=(3, 9), fill=0.80),
    Kind("plant", "Garden", (12, 48), ("rubber", "snake", "fern", "cactus", "aloe"),
         ("earthenware", "ceramic", "stoneware"), ("speckled", "zigzag", "dotted", "terrazzo",
                                                   "striped"),
         ("leaf:leaf", "leaf:#5d8a4a", "leaf:#3f6f52"),
         ("Comes with its pot and saucer.", "Content with water once a week.",
          "Likes a bright place without noon sun."), repeat=8,
         yaw=(-60, 60), pitch=(9, 16), fill=0.80),
    Kind("backpack", "Bags", (45, 130), ("classic", "roll-top", "small"),
         ("canvas", "nylon"), ("checked", "two-tone", "leafy", "floral", "confetti", "tartan"),
         ("leather:brown", "leather:same", "leather:ink"),
         ("A padded sleeve fits a 14-inch laptop.", "Wipes clean.",
          "Wide straps, three pockets."), repeat=19, yaw=(14, 32), pitch=(8, 14), fill=0.78),
    Kind("watch", "Accessories", (69, 320), ("round", "chrono", "square"),
         ("leather", "suede", "canvas"), ("striped", "banded"),
         ("polished:steel", "polished:brass", "polished:copper", "painted metal:charcoal"),
         ("Mineral glass, quartz movement.", "Water resistant to 5 bar.",
          "The strap changes without tools."), colours=(*HIDE, "grey", "teal"), repeat=1.1,
         yaw=(-34, -14), pitch=(9, 16), fill=0.72),
    Kind("plate", "Kitchen", (8, 32), ("coupe", "rimmed", "flat"),
         ("porcelain", "ceramic", "stoneware"), PRINTS + GLAZES,
         ("ceramic:same", "ceramic:ink", "polished:brass"),
         ("Sold singly.", "Safe in dishwasher and oven.", "Stacks neatly."),
         repeat=15, yaw=(-90, 90), pitch=(40, 62), fill=0.80),
    Kind("armchair", "Living room", (290, 890), ("club", "cube", "wing"),
         ("velvet", "wool", "linen", "leather"), ("striped", "floral", "tartan", "leafy"),
         ("wood:walnut", "wood:oak", "painted metal:black"),
         ("A beech frame with steel springs.", "Covers tested to 40,000 rubs.",
          "The legs screw off for narrow stairs."), repeat=44,
         yaw=(18, 36), pitch=(10, 17), fill=0.80),
    Kind("hat", "Clothing", (19, 65), ("beanie", "cap", "sun"),
         ("wool", "cotton", "linen"), ("striped", "banded", "checked", "zigzag"),
         ("cotton:ink", "cotton:same", "leather:brown"),
         ("One size, adjustable.", "Packs flat.", "Keeps its shape in the rain."),
         repeat=13, yaw=(-40, 40), pitch=(10, 20), fill=0.74),
    Kind("teapot", "Kitchen", (29, 85), ("round", "tall", "low"),
         ("ceramic", "stoneware", "enamel"), ("two-tone", "speckled", "floral", "dotted",
                                              "brushstroke"),
         ("ceramic:same", "wood:oak", "wood:walnut"),
         ("Pours without dripping.", "With a steel strainer inside.", "Makes four cups."),
         repeat=12, yaw=(-26, 26), pitch=(10, 20), fill=0.78),
    Kind("chair", "Dining room", (79, 280), ("frame", "ladder", "shell"),
         ("wool", "velvet", "leather", "wood"), ("striped", "checked", "zigzag"),
         ("wood:oak", "wood:walnut", "wood:black", "painted metal:white"),
         ("Comes assembled.", "Felt pads protect the floor.", "Carries up to 130 kg."),
         repeat=30, yaw=(18, 40), pitch=(9, 16), fill=0.82),
    Kind("soft toy", "Children", (15, 42), ("bear", "bunny", "elephant"), ("plush",), (),
         ("cotton:ink", "wool:third", "cotton:poppy"),
         ("Safe from birth, eyes sewn on tight.", "Machine washable at 30 degrees.",
          "About 32 cm tall, sitting."),
         colours=("sand", "brown", "ivory", "grey", "blush", "sky", "lilac", "sage", "mustard"),
         yaw=(-26, 26), pitch=(6, 12), fill=0.78),
    Kind("bowl", "Kitchen", (7, 39), ("round", "wide", "straight"),
         ("stoneware", "ceramic", "enamel", "wood"), PRINTS + GLAZES,
         ("ceramic:same", "ceramic:ink", "ceramic:white"),
         ("For soup, salad or keys.", "Safe in dishwasher and microwave.",
          "Each one is a little different."),
         repeat=8, pitch=(20, 34), fill=0.76),
    Kind("clock", "Living room", (25, 90), ("slim", "deep", "twin"), ("enamel",),
         ("terrazzo", "marbled"),
         ("polished:brass", "polished:copper", "wood:oak", "painted metal:black",
          "painted metal:same"),
         ("A silent movement: no ticking.", "Runs for a year on one battery.", "Hangs or stands."),
         repeat=16, yaw=(-22, 22), pitch=(4, 10), fill=0.72,
         colours=("white", "ivory", "blush", "sage", "sky", "navy", "forest", "charcoal",
                  "mustard")),
    Kind("bottle", "Travel", (15, 45), ("flask", "tumbler", "slim"),
         ("painted metal", "steel", "plastic"), ("two-tone", "confetti", "leafy", "striped",
                                                 "terrazzo"),
         ("plastic:charcoal", "wood:oak", "polished:steel", "plastic:ink"),
         ("Keeps cold for a day, hot for twelve hours.", "Leakproof lid.",
          "Fits most cup holders."),
         repeat=10, yaw=(-30, 30), pitch=(5, 12), fill=0.80),
    Kind("basket", "Living room", (19, 75), ("belly", "drum", "tray"), ("wicker", "felt"),
         ("two-tone", "striped", "zigzag"), ("leather:brown", "leather:same", "leather:black"),
         ("For blankets, toys or firewood.", "Woven by hand.", "Handles strong enough to carry."),
         colours=EARTH, repeat=30, pitch=(14, 24), fill=0.76),
    Kind("notebook", "Stationery", (6, 24), ("pocket", "large", "spiral"),
         ("paper", "leather", "canvas"),
         (*PRINTS, "terrazzo", "marbled", "confetti", "brushstroke"),
         ("nylon:ink", "nylon:black", "nylon:poppy"),
         ("192 pages of smooth, cream paper.", "Lies open flat.", "Takes fountain-pen ink."),
         repeat=10, yaw=(-26, 26), pitch=(48, 66), fill=0.76),
    Kind("candle", "Living room", (9, 38), ("jar", "wide", "tall"),
         ("ceramic", "stoneware", "porcelain"),
         ("marbled", "speckled", "terrazzo", "two-tone"),
         ("wax:mustard", "wax:forest", "wax:poppy", "wax:denim"),
         ("Burns for about forty hours.", "Soy wax with a cotton wick.",
          "Smells of cedar and orange peel."),
         repeat=8, yaw=(-12, 12), pitch=(14, 22), fill=0.68),
]  # fmt: skip

# Studio papers: mostly neutral, as one shop's pictures are.
PAPERS = ("#e9e6e1", "#e6e6e6", "#ebe5da", "#e3e6e8", "#ece2dd", "#e2e6dd")


@dataclass
class Product:
    """A row of the catalogue, and what is needed to take its picture."""

    id: int
    name: str
    kind: str
    category: str
    brand: str
    colour: str
    pattern: str
    material: str
    price: float
    description: str
    picture: str | None = None
    form: str = field(default="", repr=False)
    skin: Skin | None = field(default=None, repr=False)
    trim: Skin | None = field(default=None, repr=False)
    pose: Pose | None = field(default=None, repr=False)

    def photograph(self):
        """Draw the picture (a Pillow image)."""
        return photograph(SILHOUETTES[self.kind](self.form, self.skin, self.trim), self.pose)


# --- the dice -----------------------------------------------------------------

FAMILIES = 5  # per kind
STARTS = (
    "Al", "Bren", "Cor", "Del", "El", "Fen", "Gar", "Hol", "Is", "Jor", "Kel", "Lun", "Mir", "Nor",
    "Or", "Pel", "Quin", "Ros", "Sel", "Tor", "Ul", "Vel",
)  # fmt: skip
ENDS = ("ma", "wick", "na", "by", "low")


def _pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def _sample(rng, choices, count):
    order = rng.permutation(len(choices))[:count]
    return [choices[i] for i in order]


def _trim(option: str, colour: str, inks) -> Skin:
    material, paint = option.split(":")
    paint = {"same": colour, "ink": inks[0], "third": inks[1]}.get(paint, paint)
    return Skin(material, (paint,))


def _relations(rng, kind: Kind) -> list[tuple[str, str]]:
    """The colours and patterns one family comes in."""
    count = int(rng.choice([2, 3, 3, 4]))
    patterns = kind.patterns
    mood = rng.random() if patterns else 0
    if mood < 0.20:  # plain, in several colours
        return [(c, "plain") for c in _sample(rng, kind.colours, count)]
    if mood < 0.60:  # one pattern, in several colours
        pattern = _pick(rng, patterns)
        return [(c, pattern) for c in _sample(rng, kind.colours, count)]
    if mood < 0.80:  # one colour, in several patterns
        colour = _pick(rng, kind.colours)
        return [(colour, p) for p in _sample(rng, ("plain", *patterns), count)]
    colours, patterns = (_sample(rng, c, count) for c in (kind.colours, ("plain", *patterns)))
    return list(zip(colours, patterns, strict=True))


def _family(kind: Kind, number: int, place: int) -> list[Product]:
    """One family: a name, a brand and a form in a few colours and patterns."""
    rng = np.random.default_rng(crc32(f"{kind.name}/{number}".encode()))
    names, dear = list(BRANDS), list(BRANDS.values())
    brand = (number * 3 + place * 5) % len(names)
    # No two families share a name: a start tells the place, an end the number.
    start = (place * 7 + number * 3) % len(STARTS)
    model = STARTS[start] + ENDS[(number + start) % len(ENDS)]
    form = kind.forms[number % len(kind.forms)]
    noun = NOUNS.get(f"{form}/{kind.name}") or NOUNS.get(form, kind.name)
    material = kind.materials[(number + place) % len(kind.materials)]
    low, high = kind.price
    price = (low + (high - low) * rng.random() ** 1.3) * dear[brand]
    yaw, pitch = rng.uniform(*kind.yaw), rng.uniform(*kind.pitch)
    trim, paper = _pick(rng, kind.trims), _pick(rng, PAPERS)
    about = _sample(rng, kind.about, 2)

    made = []
    for colour, pattern in _relations(rng, kind):
        inks = _pick(rng, INKS[colour])
        skin = Skin(material, (colour, *inks), pattern, kind.repeat * rng.uniform(0.9, 1.1),
                    dip=rng.uniform(0.36, 0.58))  # fmt: skip
        pose = Pose(
            yaw=yaw + rng.normal(0, 3.5), pitch=pitch + rng.normal(0, 1.2), roll=rng.normal(0, 0.5),
            fill=kind.fill * rng.uniform(0.94, 1.04), paper=paper, seed=int(rng.integers(16000)),
        )  # fmt: skip
        word = "" if pattern == "plain" else pattern + " "
        told = TOLD[pattern].format(*inks)
        made_of = f"{colour} {material}"
        if kind.name == "plant":
            made_of = "a pot of " + made_of
        made.append(
            Product(
                id=0, name=f"{model} {word}{noun} in {colour}", kind=kind.name,
                category=kind.category, brand=names[brand], colour=colour, pattern=pattern,
                material=material, price=_tidy(price * (1.0 if pattern == "plain" else 1.12)),
                description=f"The {model} {noun} in {made_of}, {told}. " + " ".join(about),
                form=form, skin=skin, trim=_trim(trim, colour, inks), pose=pose,
            )
        )  # fmt: skip
    return made


def _tidy(price: float) -> float:
    """Prices end as shop prices do."""
    return round(price) - 0.05 if price < 100 else float(round(price / 5) * 5)


def catalogue(limit: int | None = None) -> list[Product]:
    """All products, numbered; with a limit, the first few."""
    products: list[Product] = []
    for number in range(FAMILIES):
        for place, kind in enumerate(KINDS):
            family = _family(kind, number, place)
            products += family
            if (number * len(KINDS) + place) % 16 == 2:  # listed twice: one picture, two rows
                products.append(_second_listing(family[-1]))
            if (number, place) == (0, 3):
                products.append(_without_picture(family[0]))
    for count, product in enumerate(products, 1):
        product.id = count
        if product.picture is None:
            product.picture = f"pictures/{product.kind.replace(' ', '-')}-{count:03d}.jpg"
        else:  # its twin's picture, or none
            product.picture = getattr(product.picture, "picture", None)
    return products[:limit]


def _second_listing(twin: Product) -> Product:
    copy = Product(**vars(twin))
    copy.name = f"{twin.name}, seconds"
    copy.price = _tidy(twin.price * 0.7)
    copy.description = f"{twin.description} Sold with small flaws, hence the price."
    copy.picture = twin
    return copy


def _without_picture(sibling: Product) -> Product:
    copy = Product(**vars(sibling))
    copy.name = sibling.name.rsplit(" in ", 1)[0] + " in plum"
    copy.colour = "plum"
    copy.description = sibling.description.replace(f" in {sibling.colour} ", " in plum ", 1)
    copy.description += " New: the picture is still to come."
    copy.picture = ""
    return copy


assert all(c in COLOURS for c in INKS)
