"""Cells that spreadsheets and pages leave: the reason names the likely cause, and what to do."""

from __future__ import annotations

import os
import time

import pytest
from conftest import draw
from test_sources import POSIX, refusal

from datasette_image_search.sources import Sources
from datasette_image_search.sources.hints import about_several_urls, likely_cause, names_in

ALONE = "put one into each row."
MANY = 100_000
TEXT = (
    "looks like a picture written out as text: "
    "put its bytes (a BLOB), its URL or the path of its file into the column."
)


@pytest.fixture
def sources(tmp_path) -> Sources:
    (tmp_path / "Fruit").mkdir()
    for name in ("a.png", "b c.png", "Mango.png", "Fruit/Kiwi.png"):
        draw("disc", "red").save(tmp_path / name)
    return Sources(tmp_path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a.png, b c.png", f"the cell names more than one picture: {ALONE}"),
        ("a.png;b c.png", f"the cell names more than one picture: {ALONE}"),
        ("a.png\nb c.png", f"the cell names more than one picture: {ALONE}"),
        ("a.png|Mango.PNG|x.jpeg", f"the cell names more than one picture: {ALONE}"),
        ('"a.png", "b c.png"', f"the cell names more than one picture: {ALONE}"),
        ("'a.png','b c.png'", f"the cell names more than one picture: {ALONE}"),
        ("a.png, https://example.com/b.jpg", f"the cell names more than one picture: {ALONE}"),
        ("http://u:p@[::1]:1/a.png, http://u:p@[::1]:1/b.png",
         f"the cell names more than one URL: {ALONE}"),
        ('["a.png"]', "the cell looks like JSON: put one path or one URL into each row."),
        (' ["https://example.com/a.png"]',
         "the cell looks like JSON: put one path or one URL into each row."),
        ('{"url": "a.png"}',
         "the cell looks like JSON: put one path or one URL into each row."),
        ("data:image/png;base64,iVBORw0KGgo" + "A" * 9000,
         f"'data:image/png;base64,iVBORw0KGgoAAAAAAA…' {TEXT}"),
        ("/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAUDBAQEAwUEBAQFBQUGBwwIBwcHBw8",
         f"'/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAUDBAQE…' {TEXT}"),
        ("iVBORw0KGgo" + "A" * 9000,
         f"'iVBORw0KGgoAAAAAAAAAAAAAAAAAAAAAAAAAAAAA…' {TEXT}"),
        ("//cdn.example.com/a.png",
         "'//cdn.example.com/a.png' looks like a URL without its beginning: "
         "write https: before it."),
        ("www.example.com/a.png",
         "'www.example.com/a.png' looks like a URL without its beginning: "
         "write https:// before it."),
        ("a.png?v=3",
         "'a.png?v=3' has '?v=3' behind the file's name, as a URL has: leave that out."),
        ("A.PNG?v=3",
         "'A.PNG?v=3' has '?v=3' behind the file's name, as a URL has: leave that out."),
        ("b%20c.png",
         "'b%20c.png' is written as in a URL (%20): write the file's name as it is."),
        ("file:///home/me/a.png",
         "'file:///home/me/a.png' is a URL of a file: put the file's path into the column."),
        ("FILE:///home/me/a.png",
         "'FILE:///home/me/a.png' is a URL of a file: put the file's path into the column."),
        ('"a.png"', "'\"a.png\"' has quotation marks around it: leave them out."),
        ("~/a.png", "'~/a.png' begins with ~, which only a shell knows: "
         "write the path as it is below the pictures' folder (--root)."),
        ("<img src='a.png'>",
         '"<img src=\'a.png\'>" looks like HTML: '
         "put what its src says into the column, and nothing else."),
        ('=IMAGE("https://example.com/a.png")',
         "'=IMAGE(\"https://example.com/a.png\")' looks like a spreadsheet's formula: "
         "put the address in it into the column."),
    ],
)  # fmt: skip
def test_the_likely_cause_is_named(sources, value, said):
    assert refusal(sources, value) == said


@pytest.mark.parametrize(
    "value", ["no.png", "a, b.png", "100%.png", "www.png", "a[1].png", "//share/a.png", "data.png"]
)
def test_a_path_like_any_other_is_just_not_there(sources, value):
    said = refusal(sources, value)
    assert said.startswith(repr(value)) and "the folder" in said and ":" not in said


def test_a_drive_is_of_no_use_elsewhere(sources):
    for value in (r"X:\Users\me\a.png", "x:/a.png"):
        assert refusal(sources, value) == (
            f"{value!r} begins with a drive, as on Windows: "
            "write the path as it is below the pictures' folder (--root)."
        )


@POSIX
def test_a_file_that_is_called_so_is_read(sources):
    for name in ("a.png, b.png", "b%20c.png", "a.png?v=3", "[a].png", "=a.png", "www.a.png"):
        draw("disc", "red").save(sources.root / name, "PNG")
        assert sources.fetch(name).data


def test_other_capitals_are_said_and_not_guessed_at(sources):
    if (sources.root / "MANGO.PNG").exists():
        pytest.skip("capitals are all the same here")
    here = f" is not in the folder {sources.root.name}, but "
    for value, there in (
        ("Mango.PNG", "Mango.png"),
        ("mango.png", "Mango.png"),
        ("fruit/KIWI.png", "Fruit/Kiwi.png"),
    ):
        said = refusal(sources, value)
        assert said == f"'{value}'{here}'{there}' is: write it with the same capitals."


def test_a_folder_that_has_gone_has_no_names(sources):
    assert names_in(str(sources.root / "Fruit")) == {"kiwi.png": "Kiwi.png"}
    assert names_in(str(sources.root / "gone")) == {}


@POSIX
def test_of_what_lies_outside_no_capitals_are_told(sources):
    outside = sources.root.parent / "Outside"
    outside.mkdir(exist_ok=True)
    draw("disc", "red").save(outside / "Secret.png")
    (sources.root / "Out").symlink_to(outside)
    (sources.root / "Link.png").symlink_to(outside / "Secret.png")
    for value in ("out/secret.png", "link.png", "Out/secret.png", "../outside/secret.png"):
        assert "Secret" not in refusal(sources, value)
        assert "capitals" not in refusal(sources, value)


def test_a_folder_is_listed_once_for_many_rows(sources, monkeypatch):
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    for number in range(20):
        refusal(sources, f"{number}.png")
    assert len(listed) == 1


@pytest.mark.parametrize(
    "value",
    [
        "a.jpg" + "\n" * MANY + "x",
        "a.jpg " * MANY,
        "a" + " " * MANY + "b",
        "http://a" + " " * MANY + "b",
        ";" * MANY,
        "//a" + ".a" * MANY,
        "%" * MANY,
        "data:" + ";a" * MANY,
        "<" * MANY,
        "?" * MANY + ".jpg",
    ],
    ids=range(10),
)
def test_a_cell_that_is_a_book_is_soon_done_with(value):
    began = time.perf_counter()
    likely_cause(value)
    about_several_urls(value)
    assert time.perf_counter() - began < 1
