# make demo      a shop to try it on (PORT=8001 HOST=127.0.0.1)
# make test      all tests, on Datasette 0.65 and on 1.0
# make lint      ruff, as the tests run it
# make mini      train the network that ships, from PICTURES=FOLDER: training/README.md
# make torture   kills, full disks, damage and load, half an hour: docs/reliability.md

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8001
VENV := .venv
VENV1 := .venv-1.0
SHOP := demo/shop
PICTURES ?= pictures
HARDER := --sizes 144 144 --large 0 --mix 0.8 --smallest 0.15 --turn 30 --decay 0.1
STILL_HARDER := --attend --tint 0.12 --drop 0.3 --keep 0.3
EMBED = $(VENV)/bin/datasette image-search embed $(SHOP)/shop.db products --model mini --column picture

.PHONY: demo test test-0.65 test-1.0 lint mini torture torture-0.65 torture-1.0 clean

# torch and torchvision come from one registry in one step, so that they fit each other.
$(VENV)/ready: setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	@# The build's warning of editable installs in general frightens, and is none of ours.
	PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet torch torchvision "datasette>=0.65.5,<1.0a0" -e ".[test]"
	touch $@

# The second environment holds Datasette 1.0 and looks for all else in the first.
$(VENV1)/ready: $(VENV)/ready
	$(PYTHON) -m venv $(VENV1)
	$(VENV1)/bin/python -c "import sysconfig, pathlib; \
	    here = pathlib.Path(sysconfig.get_path('purelib')); \
	    other = pathlib.Path('$(CURDIR)/$(VENV)') / here.relative_to('$(CURDIR)/$(VENV1)'); \
	    (here / 'base.pth').write_text(f'import site; site.addsitedir({str(other)!r})\n')"
	$(VENV1)/bin/python -m pip install --quiet "datasette==1.0a41"
	touch $@

demo: $(VENV)/ready
	$(VENV)/bin/python -m demo.build $(SHOP)
	@# Newer weights of mini make other vectors.
	test $(SHOP)/embedded -nt datasette_image_search/models/mini.pt || $(EMBED) --replace
	$(EMBED)
	touch $(SHOP)/embedded
	$(VENV)/bin/datasette serve $(SHOP)/shop.db -m demo/metadata.json --host $(HOST) --port $(PORT)

test: lint test-0.65 test-1.0

test-0.65: $(VENV)/ready
	$(VENV)/bin/python -m pytest

test-1.0: $(VENV1)/ready
	$(VENV1)/bin/python -m pytest

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Six runs: learning, then with larger pictures and harder views of them, then where to look,
# then with more left out, then with views that show more than the picture, twice.
mini: $(VENV)/ready
	$(VENV)/bin/python training/train.py --pictures $(PICTURES) --name first \
	    --epochs 48 --cooldown 35 --large 14
	$(VENV)/bin/python training/train.py --pictures $(PICTURES) --name second --start first \
	    --epochs 30 --cooldown 24 --rate 0.0015 $(HARDER)
	$(VENV)/bin/python training/train.py --pictures $(PICTURES) --name third --start second \
	    --epochs 40 --cooldown 38 --rate 0.0012 $(HARDER) --attend --tint 0.08 --drop 0.2
	$(VENV)/bin/python training/train.py --pictures $(PICTURES) --name fourth --start third \
	    --epochs 50 --cooldown 48 --rate 0.0014 $(HARDER) $(STILL_HARDER)
	$(VENV)/bin/python training/train.py --pictures $(PICTURES) --name fifth --start fourth \
	    --epochs 50 --cooldown 48 --rate 0.0014 $(HARDER) $(STILL_HARDER) --largest 1.3 --seed 5
	$(VENV)/bin/python training/train.py --pictures $(PICTURES) --start fifth \
	    --epochs 30 --cooldown 28 --rate 0.0012 $(HARDER) $(STILL_HARDER) --largest 1.3 --seed 6 \
	    --keep 0.5

torture: torture-0.65 torture-1.0

torture-0.65: $(VENV)/ready
	$(VENV)/bin/python -m torture

torture-1.0: $(VENV1)/ready
	$(VENV1)/bin/python -m torture

clean:
	rm -rf $(VENV) $(VENV1) $(SHOP) build dist *.egg-info
