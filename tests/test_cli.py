"""The commands: what they print, and one plain sentence for each expected failure."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import click
import numpy as np
import pytest
import sqlite_utils
from click.testing import CliRunner
from conftest import draw
from odd_pictures import is_plain

from datasette_image_search import catalog
from datasette_image_search.cli import embedded, image_search, output, progress
from datasette_image_search.collection import Collection
from datasette_image_search.collection.evaluation import _error
from datasette_image_search.vector_index.lock import hold

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux takes any bytes")


def run(*arguments, code=0):
    result = CliRunner().invoke(image_search, [*map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def failure(*arguments, code=1, status=0):
    """The one sentence of a command that fails, and of an embed what failed (``status``)."""
    result = run(*arguments, code=code)
    said = [line for line in result.stderr.splitlines() if not line.startswith("Embedding ")]
    (line,) = [line for line in said if line.startswith("Error: ")]
    assert len(said) == 1 + bool(status) or code == 2
    assert f" {status} failed." in result.stdout or not status
    assert "Traceback" not in result.output
    return line.removeprefix("Error: ")


def test_every_command_and_option_has_help():
    assert set(image_search.commands) >= {
        "load", "embed", "similar", "status", "models", "evaluate", "index", "verify", "repair",
        "forget",
    }  # fmt: skip
    for command in image_search.commands.values():
        assert "Example" in command.help, command.name
        assert not command.get_short_help_str(80 - 14).endswith("..."), command.name
        for option in command.params:
            assert isinstance(option, click.Argument) or option.help, option.opts


def test_from_a_folder_to_matches(shop_copy, tmp_path, torch_home):
    database = tmp_path / "photos.db"
    said = run("load", database, "photos", shop_copy / "pictures").output
    assert said == "24 added, 0 changed, 0 removed, 0 unchanged, 0 skipped.\n"
    done = run("embed", database, "photos", "--model", "resnet18", "--batch-size", 7)
    assert done.stdout == "24 embedded, 0 reused, 0 removed, 0 failed.\n"
    folder = shop_copy / "pictures"
    assert done.stderr == (
        f"Embedding photos.path with resnet18; files are looked for in {folder}.\n"
    )
    said = run("similar", database, "photos", "red-disc.png", "-k", 2).output
    assert said.splitlines()[0].split() == [
        "rank", "score", "path", "format", "width", "height", "bytes", "modified"
    ]  # fmt: skip
    assert "Like row red-disc.png, by resnet18, index exact." in said
    said = run("status", database).output
    assert "rows      24 with a picture: 24 embedded, 0 pending, 0 failed, 0 stale" in said
    (state,) = json.loads(run("status", database, "--json").output)
    assert (state["collection"], state["vectors"], state["problem"]) == ("photos", 24, None)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="of glibc alone",
)
def test_embed_keeps_the_memory_that_its_batches_free(shop_copy):
    """What is fetched from the system anew costs a fault for every page."""
    code = """if True:
        import resource, sys, threading
        from datasette_image_search.cli import image_search

        def count_faults():
            for first in (True, False):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                for _ in range(5):
                    blocks = [b"x" * (20 * 2**20) for _ in range(3)]
                    del blocks
            print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

        if len(sys.argv) > 1:
            image_search(["embed", *sys.argv[1:]], standalone_mode=False)
        thread = threading.Thread(target=count_faults)
        thread.start()
        thread.join()
    """
    said = []
    for arguments in ([], [shop_copy / "shop.db", "products"]):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said.append(done.stdout.splitlines())
    assert said[1][0] == "0 embedded, 0 reused, 0 removed, 0 failed, 24 unchanged."
    assert int(said[1][-1]) < int(said[0][-1]) / 10


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another OpenMP")
@pytest.mark.parametrize(("own", "spins"), [(None, {"0"}), ("active", set())])
def test_embed_leaves_the_processor_to_decoders_while_it_waits(shop_copy, own, spins):
    command = [sys.executable, "-m", "datasette", "image-search", "embed", "--replace"]
    command += [str(shop_copy / "shop.db"), "products", "--model", "mini", "--column", "picture"]
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": own} if own else {}
    env["OMP_DISPLAY_ENV"] = "verbose"  # torch's and faiss's OpenMP say so each
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert "24 embedded, 0 reused, 0 removed, 0 failed." in done.stdout
    found = set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))
    assert found == spins if spins else found and "0" not in found, done.stderr


def test_similar_as_json_and_csv_by_row_and_by_file(shop):
    database, picture = shop / "shop.db", shop / "pictures/blue-box.png"
    rows = json.loads(run("similar", database, "products", 9, "--format", "json").stdout)
    assert len(rows) == 10 and rows[0]["_rank"] == 1 and rows[0]["name"]
    text = run("similar", database, "products", 9, "--format", "csv").stdout
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(text))] == [r["id"] for r in rows]
    by_file = run("similar", database, "products", "--image", picture, "--format", "json").stdout
    assert [row["id"] for row in json.loads(by_file)][:4] == [9, *(r["id"] for r in rows[:3])]
    few = run("similar", database, "products", 9, "--where", "price < 20", "--format", "json")
    few, fit = json.loads(few.stdout), "price < 20 and id != 9"
    cheap = sqlite_utils.Database(database)["products"].count_where(fit)
    assert len(few) == cheap > 2 and all(row["price"] < 20 for row in few)


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_a_match_that_is_deleted_before_it_is_shown_is_left_out(shop_copy, monkeypatch, style):
    database, search = shop_copy / "shop.db", Collection.similar_to_row

    def searched(*arguments):
        found = search(*arguments)
        with closing(sqlite3.connect(database)) as conn, conn:
            conn.execute("delete from products where id = ?", found[0].key)
        return found

    monkeypatch.setattr(Collection, "similar_to_row", searched)
    shown = run("similar", database, "products", 1, "-k", 3, "--format", style).stdout
    count = {"table": shown.count("\n") - 2, "csv": shown.count("\n") - 1}
    assert (len(json.loads(shown)) if style == "json" else count[style]) == 2


def test_columns_with_our_names_are_not_lost(shop_copy):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("alter table products add _score text default 'own'")
    asked = ("similar", shop_copy / "shop.db", "products", 1, "-k", 2, "--format")
    of_json = json.loads(run(*asked, "json").stdout)
    of_csv = list(csv.DictReader(io.StringIO(run(*asked, "csv").stdout)))
    for rows in (of_json, of_csv):
        assert [(row["_score"], int(row["_rank"])) for row in rows] == [("own", 1), ("own", 2)]
        assert all(0 < float(row["__score"]) <= 1 for row in rows)


def test_json_has_no_infinite_numbers(shop_copy):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("update products set price = 9e999")
    asked = ("similar", shop_copy / "shop.db", "products", 1, "-k", 2, "--format")
    found = json.loads(run(*asked, "json").stdout, parse_constant=pytest.fail)
    assert [row["price"] for row in found] == [None] * 2
    assert run(*asked, "csv").stdout.count(",inf,") == 2


def test_plot_draws_the_query_beside_its_matches(shop, tmp_path):
    from PIL import Image

    drawing = tmp_path / "matches.png"
    run("similar", shop / "shop.db", "products", 9, "-k", 7, "--plot", drawing)
    with Image.open(drawing) as picture:
        width, height = picture.size
        assert width > height > 300
        grey = picture.convert("L").resize((6, 2), Image.Resampling.BOX)
        shades = list(grey.tobytes())
        # The query and seven matches: eight of twelve places are drawn, four are white.
        assert all(shade < 245 for shade in shades[:8]) and min(shades[8:]) > 250


def test_what_cannot_be_drawn_is_said_in_one_sentence(shop, tmp_path, monkeypatch):
    asked = ("similar", shop / "shop.db", "products", 9, "--plot")
    said = failure(*asked, tmp_path / "x.abc")
    assert said.startswith(f"{tmp_path / 'x.abc'} cannot be drawn: its name must end in one of ")
    assert " pdf, pgf, png, " in said and is_plain(said)
    monkeypatch.setenv("PATH", "")  # LaTeX is nowhere
    said = failure(*asked, tmp_path / "x.pgf")
    assert said.startswith(f"{tmp_path / 'x.pgf'} cannot be drawn: matplotlib says: 'xelatex' not ")
    assert is_plain(said)
    said = failure(*asked, tmp_path / "none" / "x.png")
    assert said == f"{tmp_path / 'none' / 'x.png'}: No such file or directory."


def test_evaluate_measures_what_is_known(shop):
    found = json.loads(
        run("evaluate", shop / "shop.db", "products", "--label", "category", "--json").output
    )
    assert found["queries"] == found["gallery"] == 24 and found["labels"] == 4
    rows = {
        row["id"]: row["category"]
        for row in sqlite_utils.Database(shop / "shop.db")["products"].rows
    }
    collection = Collection.open(catalog.connect(shop / "shop.db"), "products")
    ten = {
        id: [rows[m.key[0]] == rows[id] for m in collection.similar_to_row((id,))] for id in rows
    }
    assert found["p_at_1"] == round(sum(hits[0] for hits in ten.values()) / 24, 4)
    assert found["p_at_10"] == round(sum(sum(hits) for hits in ten.values()) / 240, 4)
    assert found["recall_at_k"] == round(sum(sum(hits) / 5 for hits in ten.values()) / 24, 4)
    average = [
        sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(10)) / 5 for hits in ten.values()
    ]
    assert found["map_at_10"] == pytest.approx(sum(average) / 24, abs=1e-4)
    few = run(
        "evaluate", shop / "shop.db", "products", "--label", "category",
        "--queries", "id <= 6", "--gallery", "id > 3", "-k", 3, "--json",
    )  # fmt: skip
    found = json.loads(few.output)
    assert (found["queries"], found["gallery"], found["k"]) == (6, 21, 3)
    assert found["p_at_1_error"] is None  # of one label


def test_the_error_of_p_at_1_is_that_of_drawing_labels_anew(shop):
    said = run("evaluate", shop / "shop.db", "products", "--label", "category").output
    assert re.search(r"\n  P@1        \d\.\d{3} ± \d\.\d{3} \(standard error, by label\)\n", said)
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), random.integers(1, 9, 60))
    hits = (random.random(len(labels)) < random.beta(2, 1, 60)[labels]).astype(float)
    of_label = [hits[labels == label] for label in range(60)]
    drawn = [
        np.concatenate([of_label[label] for label in random.integers(0, 60, 60)]).mean()
        for _ in range(3000)
    ]
    error = _error(hits.tolist(), labels.tolist())
    assert error == pytest.approx(np.std(drawn), rel=0.06)
    assert error > 1.3 * np.sqrt(hits.mean() * (1 - hits.mean()) / len(hits))


def test_evaluate_counts_as_people_do(shop):
    asked = ("evaluate", shop / "shop.db", "products", "--label", "category", "--queries")
    said = run(*asked, "category = 'disc'").stdout
    assert said.startswith("products by resnet18: 6 queries with 1 label of 'category', among 24 p")
    assert ": 1 query with 1 label of" in run(*asked, "id = 1").stdout


def test_the_figures_of_evaluate_are_explained(shop):
    said = run("evaluate", shop / "shop.db", "products", "--label", "category", "-k", 7).stdout
    figures = re.findall(r"^  (\S+) ", said, re.MULTILINE)
    assert figures == ["P@1", "P@10", "mAP@10", "recall@7"]
    explained = re.findall(r"^  (\S+)  +\w", run("evaluate", "--help").stdout, re.MULTILINE)
    assert {*figures[:3], "recall@k"} <= {*explained}


@pytest.mark.parametrize("condition", ["price < ", "price ~ 3", "nothing = 1", "1; delete from x"])
def test_what_is_wrong_with_a_condition_is_said_of_its_option(shop, condition):
    similar = ("similar", shop / "shop.db", "products")
    evaluate = ("evaluate", shop / "shop.db", "products", "--label", "category")
    for asked in (
        (*similar, 1, "--where"),
        (*similar, "--image", shop / "pictures/red-disc.png", "--where"),
        (*evaluate, "--queries"),
        (*evaluate, "--gallery"),
    ):
        said = failure(*asked, condition)
        assert said.startswith(f"SQLite says about {asked[-1]} '{condition}': "), said
        assert is_plain(said)


def test_a_name_of_nothing_is_answered_with_the_collections_too(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    run("embed", database, "products", "--model", "mini", "--collection", "small")
    for asked in (("similar", "1"), ("evaluate", "--label", "category")):
        said = failure(asked[0], database, "smal", *asked[1:])
        assert said == (
            "There is no table 'smal' in shop.db; there is products; collections: products, small."
        )


def test_a_picture_may_come_on_stdin(shop):
    picture = (shop / "pictures/red-disc.png").read_bytes()
    asked = ["similar", str(shop / "shop.db"), "products", "--image"]
    from_stdin = CliRunner().invoke(image_search, [*asked, "-"], input=picture)
    assert "Like the picture on stdin, by resnet18" in from_stdin.stderr
    from_file = run(*asked, shop / "pictures/red-disc.png")
    assert from_stdin.stdout == from_file.stdout
    nothing = CliRunner().invoke(image_search, [*asked, "-"])
    assert nothing.stderr == "Error: The file is empty.\n"


@pytest.mark.parametrize("total, said", [(50, "40 s"), (1_010, "17 min"), (10_090, "2 h 48 min")])
def test_the_time_that_is_left_is_said_as_people_do(monkeypatch, capsys, total, said):
    now = [1000.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    with progress.Bar("Embedding") as bar:
        bar.start(total)
        now[0] += 10
        bar.advance(10)
    assert capsys.readouterr().err.endswith(f"10 of {total:,}, 1.0/s, about {said} left\n")


@pytest.mark.skipif(os.name != "posix", reason="of a shell")
@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_a_stdout_that_is_closed_is_no_crash(shop, style):
    words = ["image-search", "similar", shop / "shop.db", "products", "1", "--format", style]
    line = shlex.join([sys.executable, "-m", "datasette", *map(str, words)])
    done = subprocess.run(["sh", "-c", f"{line} >&-"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_index_builds_again_from_the_vectors_at_hand(shop_copy):
    database = shop_copy / "shop.db"
    before = run("similar", database, "products", 3, "--format", "json").stdout
    done = run("index", database, "products", "--index", "exact")
    # a million take a minute
    assert done.stderr == "Indexing 24 vectors as exact.\n"
    assert done.stdout == "24 vectors, index exact.\n"
    assert run("similar", database, "products", 3, "--format", "json").stdout == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("similar", "{none}", "products", 1), "There is no database '{none}'."),
        (("similar", "{db}", "product", 1), "There is no table 'product' in shop.db; there "),
        (("similar", "{db}", "bare", 1), "Table 'bare' has no collection in shop.db: run "),
        (("similar", "{db}", "products", 99), "There is no row '99' in 'products'."),
        (("similar", "{db}", "products", 25), "Row 25 has no embedded picture: "),
        (("similar", "{db}", "products", "--image", "{none}"), "There is no file '{none}'."),
        (("similar", "{db}", "products", "--image", "{text}"), "This is not a picture: "),
        (("similar", "{db}", "products", 1, "--where", "colour = 1"), "SQLite says about "),
        *(
            (
                ("similar", "{db}", "products", 1, "--where", f"{name} = 1"),
                f"SQLite says about --where '{name} = 1': no such column: {name}.",
            )
            for name in ("full_name", "locked", "readonly")
        ),
        (("embed", "{db}", "nothing"), "There is no table 'nothing' in shop.db; there "),
        (("embed", "{db}", "image_search_pictures", "--column", "thumbnail"), "Tables named image"),
        (("embed", "{db}", "bare"), "Which column of 'bare' has the pictures? Name it with "),
        (("embed", "{db}", "bare", "--column", "img"), "Table 'bare' has no column 'img'; there "),
        (("embed", "{db}", "view", "--column", "name"), "'view' is a view: "),
        (("embed", "{db}", "bare", "--model", "vgg", "--column", "name"), "There is no embedding"),
        (("embed", "{text}", "products"), "{text} is not a database that can be used: "),
        (("embed", "{db}", "products", "--model", "mini"), "The collection 'products' has model "),
        (("embed", "{db}", "products", "--root", "{none}"), "The pictures' folder {none} is not"),
        (("load", "{db}", "photos", "{none}"), "There is no folder '{none}'."),
        (("load", "{db}", "", "{folder}"), "The table must have a name."),
        (("load", "{none}/x.db", "photos", "{folder}"), "There is no folder '{none}' for x.db."),
        (("evaluate", "{db}", "products", "--label", "kind"), "Table 'products' has no column "),
        (("evaluate", "{db}", "products", "--label", "name"), "No row that fits has another "),
        (("status", "{none}"), "There is no database '{none}'."),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_wrong_input_gets_one_plain_sentence(shop_copy, torch_home, arguments, words):
    database = sqlite_utils.Database(shop_copy / "shop.db")
    database["products"].insert({"id": 25, "name": "no picture"})
    database["bare"].insert({"name": "a"})
    database.create_view("view", "select * from products")
    text = shop_copy / "text.txt"
    text.write_text("hello, I am text and no database or picture" * 30)
    names = {
        "db": shop_copy / "shop.db",
        "none": shop_copy / "none",
        "text": text,
        "folder": shop_copy,
    }
    with sqlite3.connect(names["db"]) as conn:
        before = list(conn.iterdump())
    said = failure(*[str(argument).format(**names) for argument in arguments])
    assert said.startswith(words.format(**names)), said
    with sqlite3.connect(names["db"]) as conn:
        assert list(conn.iterdump()) == before, "a mistake was written down"


def test_where_no_picture_can_be_read_embed_fails(shop_copy, tmp_path, torch_home):
    database, empty = shop_copy / "shop.db", tmp_path / "empty"
    empty.mkdir()
    options = ("--collection", "lost", "--model", "mini", "--root", empty)
    said = failure("embed", database, "products", *options, status=24)
    assert said == (
        "Not one picture of 'picture' could be read: name another column with --column, or "
        "another folder with --root; "
        f"'datasette image-search forget {database} lost' removes the collection."
    )
    # The commonest reason stands for the others, whose list is a command away.
    done = run("embed", database, "products", "--collection", "lost", code=1)
    assert done.stderr.splitlines()[1] == (
        f"'datasette image-search status {database}' tells what failed, for example row 1: "
        "'pictures/red-disc.png' is not in the folder empty."
    )
    (empty / "pictures").mkdir()
    draw("disc", "red").save(empty / "pictures" / "red-disc.png")
    done = run("embed", database, "products", "--collection", "lost")
    assert done.stdout == "1 embedded, 0 reused, 0 removed, 23 failed.\n"
    shutil.rmtree(empty / "pictures")
    # It has a picture still: nobody is told to forget it.
    assert "forget" not in failure("embed", database, "products", "--collection", "lost", status=24)


def test_the_reason_that_most_rows_have_is_the_one_that_is_said(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("create table web (id integer primary key, url)")
        urls = ["n/a", *(f"http://127.0.0.{n}/{n}.png" for n in range(1, 5)), "a.png"]
        conn.executemany("insert into web (url) values (?)", [(url,) for url in urls])
        conn.commit()
    done = run("embed", shop_copy / "shop.db", "web", "--model", "mini", code=1)
    said = "tells what failed, for example row 2: 127.0.0.1 is at the private address 127.0.0.1: "
    assert said in done.stderr


@pytest.mark.parametrize(
    "one, other",
    [
        ("'a.png' is not in the folder shop.", '"it\'s.jpg" is not in the folder shop.'),
        (
            "https://a.example/1.png answers 404 Not Found.",
            "http://b.example answers 404 Not Found.",
        ),
        (
            "a.example is at the private address 10.0.0.1: …",
            "b-2.example is at the private address 192.168.1.20: …",
        ),
        ("the picture is 12,000 × 9,000 pixels; …", "the picture is 9,999 × 10,000 pixels; …"),
    ],
)
def test_reasons_that_differ_in_names_and_numbers_are_one(one, other):
    assert embedded._PARTICULARS.sub("", one) == embedded._PARTICULARS.sub("", other)


def test_a_column_without_anything_is_said_to_be_empty(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("create table plans (id integer primary key, photo, picture)")
        conn.execute("insert into plans select id, picture, null from products")
        conn.commit()
    done = run("embed", shop_copy / "shop.db", "plans", "--model", "mini")
    assert done.stdout == "0 embedded, 0 reused, 0 removed, 0 failed.\n"
    said = "No row has anything in the column 'picture': --column names another."
    assert done.stderr.splitlines()[-1] == said
    done = run("embed", shop_copy / "shop.db", "plans", "--model", "mini", "--column", "photo")
    assert done.stdout.startswith("24 embedded,") and "No row" not in done.stderr


def test_a_key_may_be_below_zero(shop_copy, torch_home):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("update products set id = -5 where id = 5")
        conn.commit()
    run("embed", shop_copy / "shop.db", "products")
    said = run("similar", shop_copy / "shop.db", "products", "-5", "-k", "2", "--format", "json")
    assert len(json.loads(said.stdout)) == 2


@pytest.mark.parametrize(
    "mistyped",
    [("products", "--foo"), ("products", "--formt", "json"), ("products", "--formt=json"),
     ("--foo", "products"), ("products", "--foo", "--image", "none.png")],
    ids=" ".join,
)  # fmt: skip
def test_a_mistyped_option_is_no_key(shop, mistyped):
    said = failure("similar", shop / "shop.db", *mistyped, code=2)
    assert "No such option" in said or "unexpected extra argument" in said


def test_after_two_dashes_a_key_may_look_like_an_option(shop_copy, torch_home):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("create table named (name text primary key, picture text)")
        conn.execute("insert into named select '--help', picture from products where id = 5")
        conn.execute("insert into named select name, picture from products where id in (6, 7)")
        conn.commit()
    run("embed", shop_copy / "shop.db", "named", "--model", "mini")
    said = run("similar", shop_copy / "shop.db", "named", "--format", "json", "--", "--help")
    assert len(json.loads(said.stdout)) == 2
    assert "Usage" in run("similar", shop_copy / "shop.db", "named", "--help").stdout


def test_a_rowid_is_shown(shop_copy, torch_home):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("create table bare as select name, picture from products limit 5")
    run("embed", shop_copy / "shop.db", "bare", "--model", "mini")
    lines = run("similar", shop_copy / "shop.db", "bare", "3").stdout.splitlines()
    assert lines[0].split() == ["rank", "score", "rowid", "name", "picture"]
    assert {line.split()[2] for line in lines[2:]} == {"1", "2", "4", "5"}


def test_status_as_json_has_every_failure(shop_copy, torch_home):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("update products set picture = id || '.png' where id < 20")
        conn.commit()
    run("embed", shop_copy / "shop.db", "products")
    (one,) = json.loads(run("status", shop_copy / "shop.db", "--json").stdout)
    assert len(one["failures"]) == one["failed"] == 19
    assert "and 9 more: --json has all" in run("status", shop_copy / "shop.db").stdout


def test_status_says_which_failed_rows_are_found_all_the_same(shop_copy):
    database = shop_copy / "shop.db"
    table = sqlite_utils.Database(database)["products"]
    (shop_copy / "pictures" / "red-disc.png").unlink()
    table.insert({"id": 25, "picture": "pictures/never.png"})
    run("embed", database, "products")
    assert (
        "25 with a picture: 23 embedded, 0 pending, "
        "2 failed (1 of them still found by the last picture), 0 stale"
    ) in run("status", database).output
    (state,) = json.loads(run("status", database, "--json").output)
    assert (state["failed"], state["failed_but_found"]) == (2, 1)


def test_forget_removes_one_collection_and_nothing_else(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    run("embed", database, "products", "--model", "mini", "--collection", "small")
    thumbnails = "select count(thumbnail) from image_search_pictures"
    assert "is no collection 'all', but products, small." in failure("forget", database, "all")
    bare = shop_copy / "bare.db"
    sqlite_utils.Database(bare)["products"].insert({"id": 1}, pk="id")
    assert failure("forget", bare, "products") == "There is no collection in bare.db."
    assert run("forget", database, "PRODUCTS").output == "products is forgotten.\n"
    # Not the table's other one, which its name would mean to a search.
    again = failure("forget", database, "products")
    assert again == "There is no collection 'products', but small."
    assert not (shop_copy / "shop.products.faiss").exists()
    assert sqlite3.connect(database).execute(thumbnails).fetchone() == (24,)  # of the other
    assert len(json.loads(run("status", database, "--json").output)) == 1
    assert "by mini, index exact" in run("similar", database, "small", 1).output
    run("forget", database, "small")
    conn = sqlite3.connect(database)
    assert conn.execute(thumbnails).fetchone() == (0,)
    assert conn.execute("select count(*) from products").fetchone() == (24,)
    assert not list(shop_copy.glob("*.faiss"))
    assert run("status", database).output.startswith("No collections in ")
    assert run("embed", database, "products", "--model", "mini").stdout.startswith("24 embedded")


def test_forget_while_somebody_embeds(shop_copy, torch_home, monkeypatch):
    database = shop_copy / "shop.db"
    with hold(shop_copy / "shop.products.faiss"):
        assert "is being written by process" in failure("forget", database, "products")
    known = catalog.collections

    def meanwhile(conn):
        """What is known, before other programs are done."""
        monkeypatch.undo()
        before = known(conn)
        run("embed", database, "products", "--model", "mini", "--collection", "small")
        run("embed", database, "products", "--model", "mini", "--replace")
        return before

    monkeypatch.setattr(catalog, "collections", meanwhile)
    assert "has just changed the collection 'products'" in failure("forget", database, "products")
    for name in ("products", "small"):
        assert "by mini, index exact" in run("similar", database, name, 1).output


def test_forget_where_the_catalog_names_no_sidecar(shop_copy):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("update image_search_collections set sidecar = '../shop.db'")
    run("forget", shop_copy / "shop.db", "products")
    assert run("status", shop_copy / "shop.db").output.startswith("No collections in ")
    assert (shop_copy / "shop.products.faiss").exists()


def test_forget_leaves_a_copied_database_its_sidecar(shop_copy):
    shutil.copy(shop_copy / "shop.db", shop_copy / "copy.db")
    run("forget", shop_copy / "shop.db", "products")
    assert "index exact" in run("similar", shop_copy / "copy.db", "products", 1).output


def test_each_row_is_counted_once(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    conn = sqlite3.connect(database)

    def status_after(*changes):
        for change in changes:
            conn.execute(change)
        conn.commit()
        return run("status", database).output

    said = status_after(
        "update products set picture = 'none.png' where id in (1, 2)",
        "update products set picture = null where id = 3",
        "insert into products (id, picture) values (99, 'new.png')",
    )
    assert "24 with a picture: 21 embedded, 3 pending, 0 failed, 1 stale" in said
    run("embed", database, "products")
    said = status_after()
    assert "24 with a picture: 21 embedded, 0 pending, 3 failed, 0 stale" in said
    said = status_after(
        "update products set picture = cast(x'ff2e706e67' as text) where id = 1",
        "update products set picture = 7 where id = 2",
        "update products set picture = x'00' where id = 4",
    )
    assert "24 with a picture: 20 embedded, 3 pending, 1 failed, 0 stale" in said
    assert re.findall(r"failed    (\d+):", said) == ["99"]
    run("embed", database, "products")
    said = status_after()
    assert "24 with a picture: 20 embedded, 0 pending, 4 failed, 0 stale" in said
    assert re.findall(r"failed    (\d+):", said) == ["1", "2", "4", "99"]


def test_one_damaged_collection_does_not_keep_the_others_from_being_mended(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    run("embed", database, "products", "--model", "mini", "--collection", "small")
    with sqlite3.connect(database) as conn:
        conn.execute("update image_search_rows_1 set image_search_picture = 'ff', "
                     "image_search_error = x'ff' where image_search_key0 = 1")  # fmt: skip
    sidecar = shop_copy / "shop.small.faiss"
    sidecar.write_bytes(sidecar.read_bytes()[:2000])
    said = run("verify", database, code=1).output
    assert (
        "products: the catalog in shop.db is damaged: a row of 'products' has picture 'ff'" in said
    )
    assert "small: shop.small.faiss is damaged" in said
    json.loads(run("status", database, "--json").stdout)
    said = run("repair", database).output
    assert "'datasette image-search embed shop.db products' makes it anew" in said
    assert list(shop_copy.glob("shop.small.faiss*-damaged"))


def test_suggested_commands_can_be_pasted(shop_copy, tmp_path):
    database = tmp_path / "my shop.db"
    shutil.copy(shop_copy / "shop.db", database)
    sqlite3.connect(database).execute('create table "it\'s" (id integer primary key)')
    said = failure("similar", database, "it's", 1)
    assert said.endswith("run `datasette image-search embed 'my shop.db' 'it'\"'\"'s'` first.")


def test_what_the_order_follows_is_what_is_shown(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    run("embed", database, "products", "--metric", "l2", "--collection", "far", "--model", "mini")
    lines = run("similar", database, "far", 1).stdout.splitlines()
    figures = [float(line.split()[1]) for line in lines[2:]]
    assert lines[0].split()[:2] == ["rank", "distance"] and figures == sorted(figures)
    lines = run("similar", database, "products", 1).stdout.splitlines()
    figures = [float(line.split()[1]) for line in lines[2:]]
    assert lines[0].split()[:2] == ["rank", "score"] and figures == sorted(figures)[::-1]


def test_blobs_in_json_are_whole(shop_copy):
    conn = sqlite3.connect(shop_copy / "shop.db")
    conn.execute("alter table products add column extra blob")
    conn.execute("update products set extra = x'00ff'")
    conn.commit()
    said = run("similar", shop_copy / "shop.db", "products", 1, "--format", "json").stdout
    assert {json.dumps(row["extra"]) for row in json.loads(said)} == {
        '{"$base64": true, "encoded": "AP8="}'
    }


def test_text_that_is_no_utf8_is_its_own_rows_alone(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    with sqlite3.connect(database) as conn:
        conn.execute("update products set picture = cast(x'ff2e706e67' as text) where id = 1")
        conn.execute("update products set name = cast(x'ff42' as text) where id = 2")
    assert run("embed", database, "products").stdout.startswith(
        "0 embedded, 0 reused, 0 removed, 1"
    )
    assert (
        "failed    1: '\N{REPLACEMENT CHARACTER}.png' is not in" in run("status", database).output
    )
    said = run("similar", database, "products", 3, "-k", 24, "--format", "json").stdout
    assert {row["id"]: row["name"] for row in json.loads(said)}[2] == "\N{REPLACEMENT CHARACTER}B"
    assert run("embed", database, "products").stdout.startswith(
        "0 embedded, 0 reused, 0 removed, 1"
    )


def test_output_needs_no_encoding_that_has_every_character(shop_copy):
    """A file on Windows has the country's encoding, which most characters are missing in."""
    name = "Łódź \N{SNOWMAN} è"
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("update products set name = ?", (name,))
        conn.commit()

    def printed(*arguments) -> bytes:
        command = [sys.executable, "-m", "datasette", "image-search", *map(str, arguments)]
        env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        done = subprocess.run(command, capture_output=True, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    asked = ("similar", shop_copy / "shop.db", "products", 1, "-k", 1)
    (row,) = json.loads(printed(*asked, "--format", "json").decode())
    (same,) = csv.DictReader(io.StringIO(printed(*asked, "--format", "csv").decode()))
    assert row["name"] == same["name"] == name
    assert "?ód? ? è" in printed(*asked).decode("cp1252")


@LINUX
def test_an_argument_that_is_no_text_is_said(shop):
    command = [sys.executable, "-m", "datasette", "image-search", "similar"]
    done = subprocess.run([*command, shop / "shop.db", "products", b"\xff"], capture_output=True)
    assert done.returncode == 1
    assert done.stderr == b"Error: An argument is not text (UTF-8).\n"


def test_usage_errors_have_exit_code_2(shop):
    failure("similar", shop / "shop.db", "products", code=2)
    failure("similar", shop / "shop.db", "products", 1, "-k", 0, code=2)
    failure("embed", shop / "shop.db", "products", "--metric", "hamming", code=2)
    for command in ("embed", "index"):
        said = failure(command, shop / "shop.db", "products", "--index", "best", code=2)
        assert said == "Invalid value for '--index': 'best' is not one of 'auto', 'exact', 'ivf'."


def test_the_kinds_of_index_are_those_there_are():
    """They are written down twice, so that the commands' help waits for no FAISS."""
    from datasette_image_search.cli import INDEX
    from datasette_image_search.vector_index import CHOICES

    assert tuple(INDEX.choices) == CHOICES


def test_damage_to_the_sidecar_is_said_and_status_goes_on(shop_copy):
    sidecar = shop_copy / "shop.products.faiss"
    whole = sidecar.read_bytes()
    sidecar.write_bytes(whole[:1000])
    said = failure("similar", shop_copy / "shop.db", "products", 1)
    assert said.startswith("shop.products.faiss is damaged: ")
    assert "problem   shop.products.faiss is damaged" in run("status", shop_copy / "shop.db").output
    sidecar.unlink()
    said = failure("similar", shop_copy / "shop.db", "products", 1)
    assert "shop.products.faiss is missing beside the database" in said


def test_a_catalog_from_a_stranger_deletes_no_file(shop_copy, torch_home):
    (shop_copy / "notes.txt").write_text("kept")
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("update image_search_collections set sidecar = 'notes.txt'")
    for command in (["repair"], ["embed", "products", "--replace"], ["embed", "products"]):
        said = failure(command[0], shop_copy / "shop.db", *command[1:])
        assert said.startswith("The catalog in shop.db names 'notes.txt' as a sidecar, which can")
    assert (shop_copy / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize("keys", ["id", "[7]", "null", "[]", "[" * 100_000])
def test_a_damaged_catalog_is_said(shop_copy, keys):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("update image_search_collections set key_columns = ?", (keys,))
    for command in (["status"], ["verify"], ["repair"], ["embed", "products"]):
        said = failure(command[0], shop_copy / "shop.db", *command[1:])
        assert said.startswith("The catalog in shop.db is damaged: a collection has key_columns ")
        assert len(said) < 200


def test_a_sidecar_of_another_model_is_refused(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    run("embed", database, "products", "--model", "mini", "--collection", "small")
    (shop_copy / "shop.small.faiss").replace(shop_copy / "shop.products.faiss")
    said = failure("similar", database, "products", 1)
    assert "'mini'" in said and "'resnet18'" in said


def test_a_locked_database_is_said(shop_copy, monkeypatch):
    from datasette_image_search.catalog import connection

    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.2)
    other = sqlite3.connect(shop_copy / "shop.db", isolation_level=None)
    other.execute("begin exclusive")
    draw("disc", "red", (33, 33)).save(shop_copy / "pictures/red-disc.png")
    assert "is locked by another program" in failure("embed", shop_copy / "shop.db", "products")


def damage(path, offset):
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 16
    path.write_bytes(raw)


def test_verify_finds_damage_and_repair_with_embed_mends_it(shop_copy):
    database, sidecar = shop_copy / "shop.db", shop_copy / "shop.products.faiss"
    before = run("similar", database, "products", 3, "--format", "json").stdout
    assert run("verify", database).output == "products: sound.\n"
    assert run("repair", database).output == "Nothing to repair.\n"
    for harm in (
        lambda: damage(sidecar, 5000),
        lambda: sidecar.write_bytes(sidecar.read_bytes()[:-700]),
        lambda: sidecar.write_bytes(b""),
        lambda: sidecar.unlink(),
    ):
        harm()
        assert "shop.products.faiss is" in run("verify", database, code=1).output
        said = run("repair", database).output
        assert "24 pictures of 'products' have to be embedded again" in said
        assert run("embed", database, "products").stdout.startswith("24 embedded")
        assert run("verify", database).output == "products: sound.\n"
        assert run("similar", database, "products", 3, "--format", "json").stdout == before
    aside = ["shop.products.faiss-2-damaged", "shop.products.faiss-3-damaged",
             "shop.products.faiss-damaged"]  # fmt: skip
    assert sorted(file.name for file in shop_copy.glob("*-damaged")) == aside


def test_repair_keeps_the_whole_records_of_a_damaged_journal(shop_copy, torch_home):
    from datasette_image_search.vector_index import SidecarWriter
    from datasette_image_search.vector_index.files import journal_path

    database = shop_copy / "shop.db"
    collection = Collection.open(catalog.connect(database), "products")
    ids = collection.index.ids()
    vectors, identity = collection.index.vectors(ids), collection.index.identity
    sidecar = shop_copy / "shop.products.faiss"
    sidecar.unlink()
    with SidecarWriter(sidecar, identity) as index:
        for start in range(0, 24, 6):
            index.add(ids[start : start + 6], vectors[start : start + 6])
    damage(journal_path(sidecar), 20000)
    assert "shop.products.faiss-journal is damaged" in run("verify", database, code=1).output
    said = run("repair", database).output
    assert "3 whole records were kept" in said
    assert "6 pictures of 'products' have to be embedded again" in said
    assert run("embed", database, "products").stdout.startswith("6 embedded")
    assert run("verify", database).output == "products: sound.\n"


def test_stdout_may_have_become_a_pipe(tmp_path, monkeypatch):
    """As for a program that runs the command in a process of its own, and reads what it says."""
    reading, writing = os.pipe()
    with open(tmp_path / "stdout", "w") as stdout, open(reading) as said:
        stdout.write("before")
        stdout.flush()
        os.dup2(writing, stdout.fileno())
        os.close(writing)
        monkeypatch.setattr(sys, "stdout", stdout)
        output.show_what_can_be_shown()
        stdout.write("after")
        stdout.close()
        assert said.read() == "after"
