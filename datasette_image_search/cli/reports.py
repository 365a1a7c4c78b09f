"""What ``status``, ``evaluate`` and ``verify`` show."""

from __future__ import annotations

import json

import click

from .. import catalog
from .. import collection as room
from ..wording import command_line, visible
from .asked import collection_called, conditions
from .output import write_data
from .progress import Bar


def _say(line: str) -> None:
    """One line, whatever characters the names in it have."""
    click.echo(visible(line))


def counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def status(database, as_json: bool) -> None:
    with catalog.opened(database) as conn:
        found = room.status(conn, None if as_json else 10)
    if as_json:
        write_data(json.dumps([_as_dict(one) for one in found], indent=2) + "\n")
        return
    if not found:
        _say(f"No collections in {database}: 'embed' makes one.")
    for number, one in enumerate(found):
        if number:
            click.echo()
        _show(one)


def _show(one) -> None:
    record, counts = one.record, one.counts
    _say(f"{record.name}: {record.table_name}.{record.column_name}")
    _say(
        f"  model     {record.model} ({record.weights_name}, {record.weights[:12]}), "
        f"{record.preprocessing}, {record.dimensions} wide, {record.metric}"
    )
    if one.problem:
        _say(f"  problem   {one.problem}")
    if counts:
        found = counts["failed_but_found"]
        about = f" ({found:,} of them still found by the last picture)" if found else ""
        _say(
            f"  rows      {counts['rows']:,} with a picture: {counts['embedded']:,} embedded, "
            f"{counts['pending']:,} pending, {counts['failed']:,} failed{about}, "
            f"{counts['stale']:,} stale"
        )
        _say(
            f"  sidecar   {record.sidecar}: {one.vectors:,} vectors, index {one.kind}, "
            f"{one.sidecar_bytes / 1e6:.1f} MB"
        )
    _say(f"  finished  {record.finished or 'never: run embed again'}")
    for key, reason in one.failures:
        _say(f"  failed    {','.join(map(str, key))}: {reason}")
    more = counts.get("failed", 0) - len(one.failures)
    if more > 0:
        _say(f"            and {more:,} more: --json has all")


def _as_dict(one) -> dict:
    record = one.record
    return {
        "collection": record.name,
        "table": record.table_name,
        "column": record.column_name,
        "model": record.model,
        "weights": record.weights,
        "preprocessing": record.preprocessing,
        "dimensions": record.dimensions,
        "metric": record.metric,
        "sidecar": record.sidecar,
        "index": one.kind,
        "vectors": one.vectors,
        "bytes": one.sidecar_bytes,
        "finished": record.finished,
        "problem": one.problem,
        **one.counts,
        "failures": [
            {"row": ",".join(map(str, key)), "reason": reason} for key, reason in one.failures
        ],
    }


def evaluation(database, table, label, queries, gallery, k, as_json) -> None:
    with catalog.opened(database) as conn:
        collection = collection_called(conn, table)
        asked = {"queries": queries, "gallery": gallery}
        with Bar("Evaluating") as bar, conditions(collection, **asked):
            found = room.evaluate(collection, label, **asked, k=k, progress=bar)
    if as_json:
        write_data(json.dumps(found.as_dict(), indent=2) + "\n")
        return
    record = collection.record
    _say(
        f"{record.name} by {record.model}: {counted(found.queries, 'query', 'queries')} with "
        f"{counted(found.labels, 'label')} of {label!r}, among {counted(found.gallery, 'picture')}"
    )
    error = found.p_at_1_error
    about = "" if error is None else f" ± {error:.3f} (standard error, by label)"
    _say(f"  P@1        {found.p_at_1:.3f}{about}")
    _say(f"  P@10       {found.p_at_10:.3f}")
    _say(f"  mAP@10     {found.map_at_10:.3f}")
    _say(f"  recall@{k:<3} {found.recall_at_k:.3f}")


def verification(database) -> None:
    with catalog.opened(database) as conn:
        found = room.verify(conn)
    if not found:
        _say(f"No collections in {database}.")
    for one in found:
        for problem in one.problems:
            _say(f"{one.name}: {problem}")
        if one.missing:
            _say(
                f"{one.name}: {one.missing:,} pictures have no vector: "
                f"run {command_line('embed', database, one.name)}."
            )
        if one.sound:
            _say(f"{one.name}: sound.")
    if not all(one.sound for one in found):
        raise SystemExit(1)
