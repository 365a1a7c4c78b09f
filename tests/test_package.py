"""The package as an index gets it: what it says of itself, and the licences in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77")  # licences keep their folders

ROOT = Path(__file__).parent.parent
LICENCES = ["LICENSE", "datasette_image_search/models/LICENSES-mini.md"]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """What setuptools makes of setup.py and the files beside it."""
    copy = tmp_path_factory.mktemp("package")
    for name in ("setup.py", "pyproject.toml", "README.md", "MANIFEST.in", *LICENCES):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "datasette_image_search" / "__init__.py").touch()
    (copy / "out").mkdir()
    code = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('out')"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (made,) = (copy / "out").glob("*.dist-info")
    return made


@pytest.fixture(scope="module")
def description(metadata):
    return message_from_string((metadata / "METADATA").read_text(encoding="utf-8")).get_payload()


def test_no_picture_or_link_leads_to_a_file_that_an_index_has_not(description):
    assert "](http" in description
    for link in re.findall(r"\]\(([^)]*)\)", description):
        assert link.startswith("https://"), link
    assert "![" not in description


def test_what_is_said_is_still_whole(description):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for whole in (readme, description):
        assert whole.count("```") % 2 == 0
    assert re.findall("^#.*", readme, re.MULTILINE) == re.findall("^#.*", description, re.MULTILINE)
    assert re.findall("```.*?```", readme, re.DOTALL) == re.findall(
        "```.*?```", description, re.DOTALL
    )
    # A sentence that led to a picture ends with it.
    for paragraph in re.findall(r"([^\n]+)\n\n!\[", readme):
        assert paragraph not in description or not paragraph.endswith(":")
    assert "docs/benchmarks.md" in description and "docs/models.md" in description


def test_the_licences_of_what_is_in_it_go_with_it(metadata):
    for name in LICENCES:
        assert (metadata / "licenses" / name).read_bytes() == (ROOT / name).read_bytes()
