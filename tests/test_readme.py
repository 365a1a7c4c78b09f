"""The README's examples are run: its commands in a shell's stead, its SQL on the shop."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sqlite3
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import build_shop, draw
from datasette.plugins import pm
from datasette.utils import parse_metadata
from test_permissions import configured

from datasette_image_search import catalog, sql_functions
from datasette_image_search.cli import image_search
from datasette_image_search.collection import query_pictures, reading
from datasette_image_search.models import models
from datasette_image_search.pictures import opening, worker
from datasette_image_search.pictures.kinds import BY_ENDING
from datasette_image_search.pictures.opening import FORMATS
from datasette_image_search.web import body, uploads
from datasette_image_search.web.settings import Settings, check, settings

README = Path(__file__).parent.parent / "README.md"
MODELS = README.parent / "docs" / "models.md"


def blocks(language: str, file: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder before the first command."""
    made = build_shop(tmp_path_factory.mktemp("readme") / "shop")
    draw("cross", "blue", (300, 200)).save(made / "found.jpg")
    return made


@pytest.fixture(scope="module")
def outputs(folder):
    """Each command of the README, in order, with what it printed."""
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in "".join(blocks("bash")).splitlines():
            program, group, *arguments = shlex.split(line)
            assert (program, group) == ("datasette", "image-search")
            result = CliRunner().invoke(image_search, arguments)
            assert result.exit_code == 0, (line, result.output)
            said[line] = result.output
    return said


def test_the_commands_run_and_say_something(outputs):
    assert len(outputs) >= 6
    assert all(outputs.values())
    assert {line.split()[2] for line in outputs} >= {"load", "embed", "similar", "status"}


@pytest.mark.parametrize("sql", blocks("sql"))
def test_the_sql_gives_rows(outputs, folder, sql):
    conn = sqlite3.connect(folder / "shop.db")
    sql_functions.register(conn)
    assert conn.execute(sql).fetchall()


def test_names_in_the_text_are_real(folder):
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"^\| `(\w+)`.*(?:torchvision|package)", text, re.MULTILINE):
        assert name in models()
    for option in set(re.findall(r"`(--[a-z-]+)", text)):
        options = [
            o
            for command in image_search.commands.values()
            for p in command.params
            for o in (*p.opts, *p.secondary_opts)
        ]
        assert option in [*options, "--help"]
    for link in re.findall(r"\]\(((?:docs|datasette)[^)#]+)", text):
        assert (README.parent / link).exists(), link


def test_every_setting_is_documented():
    documented = set(re.findall(r"^\| `(\w+)` \| [\w]+ \|", README.read_text(), re.MULTILINE))
    assert documented == {field.name for field in fields(Settings)}


def test_what_is_set_where_nobody_sets_it_is_documented():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", README.read_text("utf-8"), re.MULTILINE)
    assert {name: json.loads(default) for name, default in rows} == asdict(Settings())


def test_the_limits_are_those_that_are_documented():
    text = " ".join(README.read_text("utf-8").split()).lower()
    memory, seconds = f"{worker.MEMORY_BYTES / 2**30:g} GB of memory", reading.DECODE_SECONDS
    for said in (
        f"{body.MOST_HELD // 10**6} MB of memory together",
        f"{memory} and {seconds} seconds (an upload: {query_pictures.DECODE_SECONDS})",
    ):
        assert said.lower() in text
    assert "eight pictures wait to be looked at" in text and uploads.MOST_WAITING == 8


def test_the_container_gets_the_database_and_all_that_it_is_searched_with(outputs, folder):
    (lines,) = [block.splitlines() for block in blocks("dockerfile")]
    (copy,) = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    *files, place = copy
    names = {record.sidecar for record in catalog.collections(catalog.connect(folder / "shop.db"))}
    assert "shop.db" in files and {*files} - {"shop.db"} <= names
    (command,) = [json.loads(line[4:]) for line in lines if line.startswith("CMD ")]
    assert command[:3] == ["datasette", "-i", f"{place}shop.db"]


async def test_the_configuration_is_one(folder):
    (text,) = blocks("yaml")
    ds = configured(folder, parse_metadata(text))
    await ds.invoke_startup()
    check(ds)
    assert settings(ds).allow_upload == {"id": "*"}
    assert settings(ds, "shop", "products").max_k == 50


def test_the_model_of_the_docs_is_one(folder, tmp_path):
    (code,) = blocks("python", MODELS)
    path = tmp_path / "average_model.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("average_model", path)
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    (line,) = [line for line in MODELS.read_text("utf-8").splitlines() if " embed " in line]
    arguments = [str(folder / a) if a == "shop.db" else a for a in shlex.split(line)[2:]]
    pm.register(plugin)
    try:
        result = CliRunner().invoke(image_search, arguments)
        assert result.exit_code == 0 and "24 embedded" in result.output, result.output
        asked = [
            "similar",
            str(folder / "shop.db"),
            "colours",
            "--image",
            str(folder / "found.jpg"),
        ]
        assert CliRunner().invoke(image_search, asked).exit_code == 0
    finally:
        pm.unregister(plugin)


def test_the_formats_that_are_read_are_named():
    (text,) = re.findall("## What is read\n(.*?)\n## ", README.read_text("utf-8"), re.DOTALL)
    read, not_read = text.split("HEIC", 1)
    named = {
        format.upper().replace(" ", "") for format in re.findall(r"[A-Z][\w]+(?: 2000)?", read)
    }
    assert {*FORMATS} <= named
    pixels = f"{opening.MAX_PIXELS // 10**6} million"
    assert pixels in read and f"{opening._COSTLY_MAX_PIXELS // 10**6} million" in read
    for kind in ("JPEG XL", "SVG", "PDF", "Photoshop", "raw files"):
        assert kind in not_read and any(kind in known for known in BY_ENDING.values())
