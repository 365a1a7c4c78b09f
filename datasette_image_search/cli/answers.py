"""What ``similar`` shows: the matches as a table, JSON, CSV, or a drawing."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from .. import catalog
from ..collection import Match, as_text, finite, picture_vector
from ..errors import ImageSearchError, SourceError, UsageError
from ..wording import free_names, visible
from .asked import collection_called, conditions
from .output import write_data

_WIDEST_CELL = 40
STDIN = Path("-")


@dataclass(frozen=True)
class Answer:
    """The matches of one question, each with its row, and the pictures to draw."""

    question: str
    model: str
    metric: str
    index: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    matches: list[Match]
    rows: list[tuple]
    query_thumbnail: bytes | None
    thumbnails: list[bytes | None]


def ask(database, table, pk, image, k, where, extra_models, *, drawn: bool = False) -> Answer:
    """The rows most like the row ``pk`` or the picture in the file ``image``; with their
    thumbnails where they are to be ``drawn``."""
    with catalog.opened(database) as conn:
        collection = collection_called(conn, table)
        if image is None:
            key = collection.key_of(pk)
            with conditions(collection, where=where):
                matches = collection.similar_to_row(key, k, where)
            if collection.vector_of(key) is None:
                raise UsageError(collection.why_no_picture(key))
            question, thumbnail = f"row {pk}", collection.rows.thumbnail_of(key)
        else:
            data = _read(image)
            vector, thumbnail = picture_vector(
                data,
                collection.record,
                Path(database).resolve().parent,
                extra_models,
                download=True,
            )
            with conditions(collection, where=where):
                matches = collection.similar_to_vector(vector, k, where)
            question = "the picture on stdin" if image == STDIN else str(image)
        columns, rows = collection.rows.contents([match.key for match in matches])
        # Another program may have deleted some of them since they were found.
        there = [number for number, row in enumerate(rows) if row is not None]
        matches, rows = [matches[n] for n in there], [rows[n] for n in there]
        return Answer(
            question,
            collection.record.model,
            collection.record.metric,
            collection.index.kind,
            collection.record.key_columns,
            columns,
            matches,
            rows,
            thumbnail,
            [collection.rows.thumbnail_of(match.key) for match in matches] if drawn else [],
        )


def _read(image: Path) -> bytes:
    if image == STDIN:
        return b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        return image.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"there is no file {str(image)!r}.") from None
    except OSError as error:
        raise SourceError(f"{str(image)!r} cannot be read: {error.strerror}.") from None


def show(answer: Answer, style: str) -> None:
    """Print the matches; a table also says which model and which index answered."""
    if style == "json":
        records = [{k: finite(v) for k, v in one.items()} for one in _records(answer, _in_base64)]
        text = json.dumps(records, indent=2, ensure_ascii=False, default=as_text)
        write_data("".join(f"{_in_json(line)}\n" for line in text.split("\n")))
    elif style == "csv":
        buffer = io.StringIO()
        names = (*_columns(answer), *_figure_names(answer))
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_records(answer, _plain))
        text = buffer.getvalue()
        if sys.stdout.isatty():
            text = "".join(f"{visible(line)}\n" for line in text.splitlines())
        write_data(text)
    else:
        _show_table(answer)


def _show_table(answer: Answer) -> None:
    from tabulate import tabulate

    if not answer.matches:
        click.echo("No matches.")
        return
    figure = "distance" if answer.metric == "l2" else "score"  # what the order follows
    columns = _columns(answer)
    hidden = len(columns) - len(answer.columns)  # 1 where the key is the rowid
    shown = [
        (match.rank, f"{getattr(match, figure):.4f}", *map(_cell, (*match.key[:hidden], *row)))
        for match, row in zip(answer.matches, answer.rows, strict=True)
    ]
    headers = (*free_names(("rank", figure), columns), *map(_cell, columns))
    click.echo(tabulate(shown, headers=headers, disable_numparse=True))
    said = f"Like {answer.question}, by {answer.model}, index {answer.index}."
    click.echo(visible(said), err=True)


def _columns(answer: Answer) -> tuple[str, ...]:
    hidden = tuple(key for key in answer.keys if key not in answer.columns)  # rowid
    return hidden + answer.columns


def _figure_names(answer: Answer) -> list[str]:
    return free_names(("_rank", "_score", "_distance"), _columns(answer))


def _records(answer: Answer, shown: Callable) -> list[dict]:
    names = _figure_names(answer)
    return [
        {
            **dict(zip(answer.keys, match.key, strict=True)),
            **dict(zip(answer.columns, map(shown, row), strict=True)),
            **dict(zip(names, (match.rank, match.score, match.distance), strict=True)),
        }
        for match, row in zip(answer.matches, answer.rows, strict=True)
    ]


def _in_base64(value):
    """Bytes as Datasette and sqlite-utils have them in JSON."""
    if not isinstance(value, bytes):
        return value
    return {"$base64": True, "encoded": base64.b64encode(value).decode("ascii")}


def _plain(value):
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else value


def _cell(value) -> str:
    text = "" if value is None else " ".join(str(_plain(value)).split())
    text = visible(text)
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"


def _in_json(line: str) -> str:
    """What ``json.dumps`` leaves as it is, though a terminal acts on it."""
    return "".join(c if visible(c) == c else f"\\u{ord(c):04x}" for c in line)


def plot(answer: Answer, path: Path) -> None:
    """Draw the query beside its matches, each with rank and score, into ``path``."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImageSearchError(
            "--plot needs matplotlib: pip install 'datasette-image-search[plot]'."
        ) from None
    from ..pictures import THUMBNAIL_SIDE, Geometry
    from ..pictures.decoders import Decoders

    path = path if path.suffix else path.with_suffix(".png")
    figure = Figure(layout="constrained")
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise UsageError(
            f"{path} cannot be drawn: its name must end in one of {', '.join(sorted(kinds))}."
        )
    panels = [("query", answer.query_thumbnail)]
    panels += [
        (f"{match.rank}   {match.score:.3f}", thumbnail)
        for match, thumbnail in zip(answer.matches, answer.thumbnails, strict=True)
    ]
    across = min(len(panels), 6)
    down = -(-len(panels) // across)
    figure.set_size_inches(2 * across, 2.3 * down)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    # A database may be a stranger's, and so its thumbnails.
    square = Geometry(THUMBNAIL_SIDE, "pad")
    with Decoders(1) as decoders:
        for axis, (title, thumbnail) in zip(axes, panels, strict=False):
            axis.set_title(title, fontsize=10)
            if thumbnail is None:
                axis.text(0.5, 0.5, "no thumbnail", ha="center", va="center", fontsize=8)
            else:
                axis.imshow(decoders.prepare(thumbnail, square, thumbnail=False).pixels)
    try:
        figure.savefig(path, dpi=120)
    except OSError:
        raise
    except Exception as error:  # what draws pgf raises several kinds, where LaTeX is missing
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ImageSearchError(f"{path} cannot be drawn: matplotlib says: {reason}.") from None
    print(f"Drawn into {path}.", file=sys.stderr)
