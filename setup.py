import re
from pathlib import Path

from setuptools import find_packages, setup


def long_description() -> str:
    """README.md as a package index can show it, which has no files beside it.

    Pictures are left out, and a colon that led to one; a link to a file is its text alone.
    """
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    elsewhere = r"\((?!https?:)[^)]*\)"
    text = re.sub(rf"(:?)\n\n!\[[^\]]*\]{elsewhere}", lambda found: "." if found[1] else "", text)
    return re.sub(rf"\[([^\]]*)\]{elsewhere}", r"\1", text)


setup(
    name="datasette-image-search",
    description="Datasette plugin: which of these pictures look like this one?",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    version="0.1a0",
    license="Apache-2.0",
    license_files=["LICENSE", "datasette_image_search/models/LICENSES-mini.md"],
    python_requires=">=3.10",
    packages=find_packages(include=["datasette_image_search", "datasette_image_search.*"]),
    package_data={
        "datasette_image_search": [
            "models/*.pt",
            "models/*.md",
            "static/*",
            "templates/*.html",
        ]
    },
    install_requires=[
        "datasette>=0.65.5",
        "sqlite-utils>=3.38",
        "torch>=2.6",
        "torchvision>=0.21",
        "faiss-cpu>=1.11",
        "numpy>=1.26",
        "Pillow>=11.3",
        "filelock>=3.12",
        "python-multipart>=0.0.20",
    ],
    extras_require={
        "plot": ["matplotlib>=3.8"],
        "test": [
            "hypothesis>=6.100",
            "matplotlib>=3.8",
            "playwright>=1.45",
            "pytest>=8",
            "pytest-asyncio>=0.23",
            "pytest-timeout>=2.3",
            "ruff>=0.6",
        ],
    },
    entry_points={
        "datasette": ["image_search = datasette_image_search"],
        "sqlite_utils": ["image_search = datasette_image_search.sqlite_utils_plugin"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Datasette",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Graphics",
    ],
)
