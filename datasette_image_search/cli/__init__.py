"""``datasette image-search …``: words in, words out.

Imported when Datasette starts, whatever the command: nothing heavy is imported at its top.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..hookspecs import registered_models
from ..wording import visible
from .group import command, image_search
from .keys import TakesKey

DATABASE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
INDEX = click.Choice(["auto", "exact", "ivf"])
DEVICE = click.Choice(["auto", "cpu", "cuda", "mps"])
PRECISION = click.Choice(["auto", "fp32", "bf16", "fp16"])
STYLE = click.Choice(["table", "json", "csv"])


def register(cli: click.Group) -> None:
    """Add the group of commands to Datasette's own."""
    cli.add_command(image_search)


@command
@click.argument("database", type=DATABASE)
@click.argument("table")
@click.argument("folder", type=FOLDER)
@click.option(
    "--prune",
    is_flag=True,
    help="Drop rows even where most pictures are gone, or the folder is another",
)
def load(database, table, folder, prune):
    """Make a table of the pictures in a folder, or update it.

    Example:

        datasette image-search load photos.db photos ~/Pictures

    The table gets path, format, width, height, bytes and modified. Run it again for
    what is new, changed or gone. The folder is remembered: 'embed' needs no --root.

    Passed over are hidden files and folders, those that systems make (@eaDir,
    #recycle), linked folders, and links that lead outside.
    """
    from ..collection import load as load_folder
    from .progress import Bar

    with Bar("Loading") as bar:
        summary = load_folder(database, table, folder, prune=prune, progress=bar)
    click.echo(f"{summary}.")
    for line in summary.left_out.lines():
        click.echo(visible(f"Skipped {line}"), err=True)


@command
@click.argument("database", type=DATABASE)
@click.argument("table")
@click.option("--column", help="The column with paths, URLs or BLOBs")
@click.option("--root", type=FOLDER, help="Paths are relative to this folder")
@click.option("--model", help="An embedding model: see 'models' (default: resnet50)")
@click.option("--weights", metavar="NAME|FILE", help="Other weights for the model")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "l2"]),
    help="Order matches by cosine similarity, or by plain distance (default: cosine)",
)
@click.option(
    "--resize",
    type=click.Choice(["squash", "crop", "pad"]),
    help="Make a picture square: squash it, crop its middle, or pad it (default: squash)",
)
@click.option(
    "--device",
    type=DEVICE,
    default="auto",
    help="Where the network runs (default: a GPU if there is one)",
)
@click.option(
    "--precision", type=PRECISION, default="auto", help="Its numbers; auto suits the device"
)
@click.option(
    "--batch-size", type=click.IntRange(1, 4096), help="How many pictures it sees at once"
)
@click.option("--index", type=INDEX, help="The kind of index; ivf is compressed")
@click.option("--collection", metavar="NAME", help="A further collection of the same table")
@click.option("--replace", is_flag=True, help="Forget the collection first, and embed all anew")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="Keep small pictures in the database, or none (as before; at first they are kept)",
)
@click.option("--allow-private-urls", is_flag=True, help="Read URLs at private addresses too")
def embed(database, table, **options):
    """Embed what is new or changed, forget what is gone.

    Example:

        datasette image-search embed shop.db products --column picture

    A row whose picture cannot be read stops nothing: 'status' has the reason, and the
    next embed tries it again. Stopped at any moment, the next embed goes on from there.
    """
    from .batches import prepare_for_batches

    prepare_for_batches()  # before the next lines: faiss asks as torch does

    from ..collection import EmbedOptions
    from ..collection import embed as embed_table
    from . import embedded
    from .progress import Bar

    with Bar("Embedding") as bar:
        summary = embed_table(
            database, table, EmbedOptions(**options), extra_models=registered_models(), progress=bar
        )
    embedded.tell(database, options["collection"] or table, summary)


@partial(command, cls=TakesKey, ignore_unknown_options=True)
@click.argument("database", type=DATABASE)
@click.argument("table")
@click.argument("pk", required=False)
@click.option(
    "--image",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Ask with a picture's file (-: stdin)",
)
@click.option(
    "-k", type=click.IntRange(1, 10_000), default=10, help="How many matches (default: 10)"
)
@click.option("--where", metavar="SQL", help="Only among rows that fulfil this")
@click.option("--format", "style", type=STYLE, default="table", help="How to show them")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the matches")
def similar(database, table, pk, image, k, where, style, plot):
    """Show the rows most like a row, or like a picture.

    Examples:

        datasette image-search similar shop.db products 42

        datasette image-search similar shop.db products --image found.jpg -k 5

    Before a key that begins with two dashes, give -- alone.
    """
    from . import answers

    if (pk is None) == (image is None):
        raise click.UsageError("Give the key of a row or --image FILE, one of the two.")
    answer = answers.ask(
        database, table, pk, image, k, where, registered_models(), drawn=plot is not None
    )
    if plot is not None:
        answers.plot(answer, plot)
    answers.show(answer, style)


@command
@click.argument("database", type=DATABASE)
@click.option("--json", "as_json", is_flag=True, help="As JSON")
def status(database, as_json):
    """Show the collections of a database, and what failed.

    Example:

        datasette image-search status shop.db
    """
    from . import reports

    reports.status(database, as_json)


@command
def models():
    """List the embedding models.

    Example:

        datasette image-search models
    """
    from tabulate import tabulate

    from .. import models as room

    every = room.models(registered_models()).values()
    rows = [
        (model.id, model.dimensions, "here" if model.weights_here() else "to download",
         model.description)
        for model in every
    ]  # fmt: skip
    click.echo(tabulate(rows, headers=("model", "dimensions", "weights", "what")))
    click.echo(f"\nThe default is {room.DEFAULT_MODEL}; {room.NO_DOWNLOAD} needs no download.")


@command
@click.argument("database", type=DATABASE)
@click.argument("table")
@click.option("--label", required=True, metavar="COLUMN", help="The column that says what is alike")
@click.option("--queries", metavar="SQL", help="Ask only with rows that fulfil this")
@click.option("--gallery", metavar="SQL", help="Search only among rows that fulfil this")
@click.option(
    "-k", type=click.IntRange(1, 1000), default=10, help="The k of recall@k (default: 10)"
)
@click.option("--json", "as_json", is_flag=True, help="As JSON")
def evaluate(database, table, label, queries, gallery, k, as_json):
    """Measure how well a collection finds rows of the same label.

    Example:

        datasette image-search evaluate shop.db products --label category

    Asks with each picture whose label another picture has too, and counts as right the
    matches that have it. Rows whose label is null or empty are left out; of rows with
    the same picture the first by key counts. Each figure is a mean, from 0 to 1:

    \b
    P@1       share of first matches that are right; after ± the standard error,
              by label: pictures of one tend to be found or missed together
    P@10      share of the first ten; where a label has six pictures, at most 0.5
    mAP@10    average precision of the first ten: the nearer to the top, the more
    recall@k  share of all that are right which are among the first k
    """
    from . import reports

    reports.evaluation(database, table, label, queries, gallery, k, as_json)


@command
@click.argument("database", type=DATABASE)
@click.argument("table")
@click.option("--index", "kind", type=INDEX, required=True, help="Its kind; ivf is compressed")
def index(database, table, kind):
    """Build another kind of index from the vectors at hand.

    Example:

        datasette image-search index shop.db products --index exact
    """
    from ..collection import rebuild_index
    from .progress import Bar

    with Bar("Indexing") as bar:
        used, count = rebuild_index(database, table, kind, progress=bar)
    click.echo(f"{count:,} vectors, index {used}.")


@command
@click.argument("database", type=DATABASE)
@click.argument("collection")
def forget(database, collection):
    """Remove a collection: its vectors and thumbnails. The table and its pictures stay.

    Example:

        datasette image-search forget shop.db products
    """
    from ..collection import forget as remove

    click.echo(visible(f"{remove(database, collection)} is forgotten."))


@command
@click.argument("database", type=DATABASE)
def verify(database):
    """Look for damage in the collections of a database.

    Example:

        datasette image-search verify shop.db

    Where there is some, the exit code is 1; 'repair' mends it.
    """
    from . import reports

    reports.verification(database)


@command
@click.argument("database", type=DATABASE)
@click.option(
    "--trust-catalog",
    is_flag=True,
    help="Believe the tables named image_search_… that another program has made anew",
)
def repair(database, trust_catalog):
    """Mend damaged collections from what is left.

    Example:

        datasette image-search repair shop.db

    What is whole in a damaged file is kept, to 64 KB or 1/4096 of it, and you are told
    what to embed again. Nothing is deleted: the file itself is set aside under a name
    that ends in -damaged.
    """
    from ..collection import repair as mend

    said = mend(database, trust_catalog=trust_catalog)
    click.echo("\n".join(map(visible, said)) or "Nothing to repair.")
