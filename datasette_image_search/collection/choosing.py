"""Which collection an embed is for, what made its vectors, and what may not change."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path

from .. import catalog, models, pictures
from ..catalog import CollectionRecord, Rows, Table
from ..errors import UsageError
from ..vector_index import METRICS, choose, discarding
from .folders import folder_missing, require_folder, require_its_files, require_pictures
from .others import changed_meanwhile, is_shared, is_there, own_sidecar
from .query_pictures import weights_argument

_COLUMN_NAMES = ("picture", "image", "photo", "path", "file", "filename", "img", "url", "image_url")


@dataclass(frozen=True)
class EmbedOptions:
    """What the user asked for; None leaves a new collection's default, or what it has."""

    column: str | None = None
    root: Path | None = None
    model: str | None = None
    weights: str | None = None
    metric: str | None = None
    resize: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    index: str | None = None
    collection: str | None = None
    replace: bool = False
    thumbnails: bool | None = None
    allow_private_urls: bool = False


@dataclass(frozen=True)
class Chosen:
    """What to embed into, and by what. The ``network`` of a new collection is loaded already.

    ``before`` is the collection as the catalog has it until :func:`settle`.
    """

    record: CollectionRecord
    before: CollectionRecord
    model: models.EmbeddingModel
    weights: models.Weights
    network: models.LoadedModel | None = None


def collection_for(conn, database: Path, name: str, options: EmbedOptions, extra) -> Chosen:
    """The collection to embed into, made if need be."""
    if options.collection is not None and not options.collection.strip():
        raise UsageError("the collection must have a name.")
    if options.root is not None and not options.root.is_dir():
        # It would be remembered, and the next embed would look there too.
        raise folder_missing(options.root)
    found = _find(conn, name, options.collection)
    if found is None:
        return _made(conn, database, name, options, extra)
    if options.replace or _took_a_wrong_column(conn, found, options):
        renamed = _as_renamed(conn, found, name, options)
        renamed.table_with_column(conn)  # where it has gone, that says what to do
        as_before = _as_before(conn, renamed, options, extra)
        return _made(conn, database, renamed.table_name, as_before, extra, found)
    return _existing(conn, own_sidecar(conn, database, found), name, options, extra)


def _find(conn, name: str, asked: str | None) -> CollectionRecord | None:
    """The collection ``asked`` for, or the one that ``name`` means."""
    found = catalog.find(conn, asked or name)
    if found is not None and asked and not found.is_called(asked):
        return None  # found by its table; another name makes another collection
    return found


def _made(conn, database: Path, table_name: str, options: EmbedOptions, extra, old=None) -> Chosen:
    """A new collection, in the place of the ``old`` one if there is one."""
    catalog.refuse_reserved(table_name)
    table = Table.read(conn, table_name)
    model = models.get(models.DEFAULT_MODEL if options.model is None else options.model, extra)
    geometry = pictures.Geometry(model.input_size, options.resize or "squash")
    metric = options.metric or "cosine"
    if metric not in METRICS:
        raise UsageError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}.")
    choose(options.index or "auto", 0)
    column = table.column(options.column) if options.column else _guess_column(table)
    root = options.root or catalog.folder_of(conn, table.name) or database.resolve().parent
    weights = model.find_weights(options.weights, progress=True)
    name = options.collection or table.name
    catalog.refuse_name_of_a_table(conn, name, table.name, is_new=old is None)
    made = CollectionRecord(
        id=0,
        name=name,
        table_name=table.name,
        column_name=column,
        key_columns=table.keys,
        root=catalog.portable(conn, Path(root)),
        model=model.id,
        weights=weights.sha256,
        weights_name=_weights_name(conn, model, options.weights, weights),
        resize=geometry.resize,
        preprocessing=str(geometry),
        dimensions=model.dimensions,
        metric=metric,
        index_kind=options.index or "auto",
        sidecar="",
        thumbnails=options.thumbnails is not False,
    )
    # What is refused, also by the network, leaves the database and the old collection as they were.
    require_folder(conn, made)
    if old is not None:
        require_its_files(conn, old, made)
    network = model.load(weights, options.device, options.precision)
    # Only now: meanwhile another database may have taken the name.
    if old is None or is_shared(database, old):
        sidecar, discarded = catalog.free_sidecar_name(conn, database, name), nullcontext()
    else:
        sidecar, discarded = old.sidecar, discarding(old.sidecar_path(conn))
    before = [] if old is None else [old]
    catalog.prepare(conn)
    # The catalog first: a kill leaves the old collection, or a new one without rows, which
    # sets aside what is not its own.
    with discarded, catalog.transaction(conn):
        if [known for known in catalog.collections(conn) if known.name == name] != before:
            raise changed_meanwhile(name)
        if old is not None:
            catalog.drop(conn, old)
        record = catalog.insert(conn, replace(made, sidecar=sidecar), table)
    return Chosen(record, record, model, weights, network)


def settle(conn, chosen: Chosen) -> None:
    """Write down how the collection is to be from now on. To be called with its sidecar's lock:
    an embed that another one keeps out changes nothing."""
    record, before = chosen.record, chosen.before
    # Two databases of one name but for its end may have chosen the same sidecar at once.
    if not is_there(conn, before) or is_shared(Path(catalog.database_path(conn)), before):
        raise changed_meanwhile(before.name)
    table = record.table_with_column(conn)
    if table.keys != record.key_columns:
        raise changed_meanwhile(before.name)
    is_known = before.has_key_of(conn, table)
    changed = {f.name for f in fields(record) if getattr(record, f.name) != getattr(before, f.name)}
    changes = {name: getattr(record, name) for name in changed - {"key_columns"}}
    if is_known and not changes:
        return
    catalog.prepare(conn)
    with catalog.transaction(conn):
        catalog.update(conn, record.id, **changes)
        if not is_known:
            catalog.renew_key(conn, record, table)
        elif "root" in changes:
            catalog.forget_fingerprints(conn, record)


def _as_before(conn, record: CollectionRecord, options: EmbedOptions, extra) -> EmbedOptions:
    """The options of a collection that is made anew: what is not asked for stays."""
    weights = options.weights
    if weights is None and options.model in (None, record.model):
        folder = Path(catalog.database_path(conn)).parent
        weights = weights_argument(models.get(record.model, extra), record.weights_name, folder)
    return replace(
        options,
        collection=record.name,
        column=options.column or record.column_name,
        root=options.root or record.root_path(conn),
        model=record.model if options.model is None else options.model,
        weights=weights,
        metric=options.metric or record.metric,
        resize=options.resize or record.resize,
        index=options.index or record.index_kind,
        thumbnails=record.thumbnails if options.thumbnails is None else options.thumbnails,
    )


def _took_a_wrong_column(conn, record: CollectionRecord, options: EmbedOptions) -> bool:
    """Was there no picture in its column, and is it another that is asked for now?"""
    other = options.column and not catalog.same_name(options.column, record.column_name)
    return bool(other) and not Rows(conn, record).has_pictures()


def _existing(conn, record: CollectionRecord, name: str, options: EmbedOptions, extra):
    """A collection that is there; what made its vectors cannot be changed in passing."""
    before, record = record, _as_renamed(conn, record, name, options)
    if _is_another(record, name):
        raise UsageError(
            f"the collection {record.name!r} belongs to table {record.table_name!r}, "
            f"not to {name!r}: choose another name with --collection."
        )
    table = record.table_with_column(conn)
    catalog.refuse_name_of_a_table(conn, record.name, table.name)
    if options.model and not catalog.same_name(options.model, record.model):
        models.get(options.model, extra)  # one that there is not is told of as that
    asked = {
        "model": (options.model, record.model),
        "metric": (options.metric, record.metric),
        "resize": (options.resize, record.resize),
        "column": (options.column, record.column_name),
    }
    for what, (wanted, has) in asked.items():
        if wanted is not None and not catalog.same_name(wanted, has):
            raise UsageError(
                f"the collection {record.name!r} has {what} {has!r}, not {wanted!r}: "
                f"leave out --{what}, make another collection with --collection NAME, "
                "or give --replace to embed everything anew."
            )
    model = models.get(record.model, extra)
    if model.dimensions != record.dimensions:
        raise UsageError(
            f"the collection {record.name!r} has vectors of {record.dimensions} numbers, but the "
            f"model {model.id!r} makes {model.dimensions} now: give --replace to embed everything "
            "anew, or make another collection with --collection NAME."
        )
    folder = Path(catalog.database_path(conn)).parent
    name = options.weights or weights_argument(model, record.weights_name, folder)
    weights = model.find_weights(name, progress=True)
    if weights.sha256 != record.weights:
        raise UsageError(
            f"the collection {record.name!r} was made with weights of SHA-256 "
            f"{record.weights[:12]}…, but {weights.path} has {weights.sha256[:12]}…: "
            "give --replace to embed everything anew, or make another collection with "
            "--collection NAME."
        )
    if options.index is not None:
        choose(options.index, 0)
    weights_name = record.weights_name
    if options.weights is not None:  # the same, in another place: asking needs them too
        weights_name = _weights_name(conn, model, options.weights, weights)
    wanted = replace(
        record,
        key_columns=table.keys,
        root=record.root if options.root is None else catalog.portable(conn, options.root),
        index_kind=options.index or record.index_kind,
        thumbnails=record.thumbnails if options.thumbnails is None else options.thumbnails,
        weights_name=weights_name,
    )
    if wanted.root != record.root:
        require_its_files(conn, record, wanted)
    if (record.table_name, record.column_name) != (before.table_name, before.column_name):
        require_pictures(conn, before, wanted)
    return Chosen(wanted, before, model, weights)


def _as_renamed(conn, record: CollectionRecord, name: str, options: EmbedOptions):
    """With the table and the column asked for, where its own are not there any more.

    Renamed or others: each row is compared with what it had, and known pictures have vectors.
    """
    tables = catalog.table_names(conn)
    if not any(map(record.is_of, tables)):
        is_table = any(catalog.same_name(name, table) for table in tables)
        if not options.collection or not (is_table or _is_another(record, name)):
            return record
        catalog.refuse_reserved(name)
        record = replace(record, table_name=Table.read(conn, name).name)
    if options.column:
        table = Table.read(conn, record.table_name)
        if not any(catalog.same_name(record.column_name, column) for column in table.columns):
            record = replace(record, column_name=table.column(options.column))
    return record


def _is_another(record: CollectionRecord, name: str) -> bool:
    return not (record.is_of(name) or record.is_called(name))


def _weights_name(
    conn, model: models.EmbeddingModel, asked: str | None, weights: models.Weights
) -> str:
    if asked and not models.knows_weights(model, asked) and Path(asked).is_file():
        folder = Path(catalog.portable(conn, Path(asked).parent))
        return (folder / Path(asked).name).as_posix()
    return weights.name


def _guess_column(table: Table) -> str:
    lower = {column.lower(): column for column in table.columns}
    for name in _COLUMN_NAMES:
        if name in lower:
            return lower[name]
    raise UsageError(
        f"which column of {table.name!r} has the pictures? Name it with --column; "
        f"there are {', '.join(table.columns)}."
    )
