# What CI runs, and you can. Needs make and Python 3.11 or newer; everything else is installed into .venv/.
#
#   make demo     base install (no torch), depth maps of the photographs in examples/
#   make test     full environment, the fast tests
#   make slow     the slow tests
#   make engine   teacher, pseudo labels, student at nano's size, in one table; SIZE=1 for real, PAIRS=manifest.json to score
#   make rehearse the whole chain of both papers with a few images, steps and ViT-S, by the commands of a real run, checked:
#                 what to run first; DEVICE=cuda DEV=$VIRTUAL_ENV on GPUs, CHAIN=paper with ViT-L and ViT-g
#   make nano     a nano from scenes that it renders and the encoder of a PyPI package, both files: three hours of two
#                 cores; RECIPE=nano-long-teacher for half a day more; DEVICE=cuda DEV=$VIRTUAL_ENV in an environment whose
#                 torch knows the GPU; goes on where it was stopped (`timeout 600 make nano` for slices)
#   make pictures all images of the documentation and the page's example, with the bundled nano
#   make check    formatting, lint, types, dependency check
#   make system   as root: the browser, npm and Xvfb that tests of the page and the live window need (and LLVM, where no wheel brings it)
#   make docs     the documentation as a site, in site/index.html; dead links are errors
#   make mutants  plausible mistakes in the package, one at a time, and the tests that must notice: some 25 minutes of a
#                 core, not part of CI; ONLY="losses clip": those with one of the words in their place or their rule
#   make bench    time to the first map, beside `import torch`

PYTHON ?= python3
SIZE ?= 0.1
PHOTOS ?= examples
NANO ?= runs/nano
RECIPE ?= nano-teacher
DEVICE ?= cpu
PROCESSES ?= $(if $(filter cpu,$(DEVICE)),$(shell nproc 2>/dev/null || sysctl -n hw.ncpu),1)
MODELS ?= $(wildcard /usr/share/sweethome3d/furniture)
BASE := .venv/base
DEV := .venv/dev
DOCS := .venv/docs
# Two processes of one thread run twice as many tests as one of two threads. A test that ends its process in C++ fails alone;
# the others continue in a new process.
PYTEST := env OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest -q -n 2
SOURCES := $(shell find depth_anything -name '*.py')

.PHONY: demo test slow engine rehearse nano pictures check docs mutants bench system clean
.DELETE_ON_ERROR:

demo: $(BASE)/.installed
	$(BASE)/bin/depth-anything predict examples --out out/demo --save color,png16,npz --overwrite

test: $(DEV)/.installed
	$(PYTEST) -m "not slow" --durations=10

slow: $(DEV)/.installed
	$(PYTEST) -m slow --durations=10

engine: $(DEV)/.installed
	$(DEV)/bin/python scripts/engine.py --out out/engine --size $(SIZE) --photos $(PHOTOS) $(if $(PAIRS),--pairs $(PAIRS))

rehearse: $(if $(filter .venv/dev,$(DEV)),$(DEV)/.installed)
	rm -rf out/rehearse
	$(DEV)/bin/python scripts/rehearse.py --out out/rehearse --device $(DEVICE) $(if $(CHAIN),--chain $(CHAIN)) \
	    $(if $(filter-out file,$(origin PROCESSES)),--processes $(PROCESSES))

# One thread a process: on a processor two such processes see twice the pictures of one process with two threads. MALLOC_:
# memory that a step gives back stays with the process for the next one, which is a seventh faster. `env`: no shell between
# make and the run, so that make ends only when that has been saved.
nano: SIZE = 1
nano: RENDER = $(DEV)/bin/depth-anything render --width 320 --height 240 $(NANO)/scenes
nano: COUNT = --count $(shell awk 'BEGIN { print int($(SIZE) * $(1) + 0.999) }') $(if $(MODELS),--models $(MODELS))
nano: KEEP = MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592
nano: SCENES = $(if $(filter nano-long-%,$(RECIPE)),10240,4096)
nano: PYTHONS = $(DEV)/bin/$(if $(filter 1,$(PROCESSES)),python,torchrun --standalone --nproc-per-node $(PROCESSES))
nano: TRAIN = env OMP_NUM_THREADS=1 $(KEEP) $(PYTHONS) -m depth_anything train
nano: FINISH = $(TRAIN) nano-finish --start-from $(NANO)/teacher/final.safetensors
nano: BUNDLE = $(DEV)/bin/python scripts/bundle.py
nano: OPTIONS = --size $(SIZE) --scenes $(NANO)/scenes --device $(DEVICE) --readers $(if $(filter cpu,$(DEVICE)),1,8)
nano: GPU = import sys, torch; torch.cuda.is_available() or \
 sys.exit("DEVICE=$(DEVICE): the torch in $(DEV) sees no GPU; give DEV=FOLDER, an environment whose torch does")
nano: $(if $(filter .venv/dev,$(DEV)),$(DEV)/.installed)
	$(if $(filter cuda%,$(DEVICE)),@$(DEV)/bin/python -c '$(GPU)')
	$(RENDER)/held_out --seed 10000000 $(call COUNT,256)
	$(RENDER)/training $(call COUNT,$(SCENES))
	$(TRAIN) $(RECIPE) $(NANO)/teacher $(OPTIONS)
	$(FINISH) $(NANO)/finish-1 --seed 1 $(OPTIONS)
	$(FINISH) $(NANO)/finish-2 --seed 2 $(OPTIONS)
	$(BUNDLE) $(addsuffix /final.safetensors,$(addprefix $(NANO)/,teacher finish-1 finish-2)) --out $(NANO)/mean
	$(TRAIN) nano-outlines --start-from $(NANO)/mean/nano.safetensors $(NANO)/outlines $(OPTIONS)
	$(TRAIN) nano-long-outlines --start-from $(NANO)/outlines/final.safetensors $(NANO)/long --seed 1 $(OPTIONS)
	$(BUNDLE) $(NANO)/long/final.safetensors --out $(NANO)

pictures: $(if $(filter .venv/dev,$(DEV)),$(DEV)/.installed)
	$(DEV)/bin/python docs/images.py

check: $(DEV)/.installed
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/pyright --pythonpath $(DEV)/bin/python
	$(DEV)/bin/python -m pip check

docs: $(DOCS)/.installed
	$(DOCS)/bin/python docs/stage.py build/pages
	$(DOCS)/bin/zensical build --strict --clean
	$(DOCS)/bin/python docs/check_site.py site

mutants: $(DEV)/.installed
	$(DEV)/bin/python tests/mutants.py $(ONLY)

bench: $(DEV)/.installed $(BASE)/.installed
	$(DEV)/bin/python benchmarks/first_map.py --base $(BASE)/bin/python

# torch first and by its exact version: that is the processor build; anything looser fetches gigabytes of CUDA.
$(DEV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install -q -c constraints.txt torch==2.13.0
	$(DEV)/bin/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

$(BASE)/.installed: pyproject.toml constraints.txt $(SOURCES)
	$(PYTHON) -m venv $(BASE)
	$(BASE)/bin/python -m pip install -q -c constraints.txt --force-reinstall --no-deps .
	$(BASE)/bin/python -m pip install -q -c constraints.txt .
	touch $@

system:
	apt-get update
	apt-get install -y --no-install-recommends chromium xvfb $(if $(shell command -v npm),,npm) $(if $(filter x86_64,$(shell uname -m)),,libllvm19)

clean:
	rm -rf .venv out build dist site .cache *.egg-info
