# make demo: teach a robot backflips.   make test: run the tests.   Both set up everything they need in .venv.
# ARGS is passed on: make demo ARGS="--labels 300", make test ARGS="-k store".

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Processes that test side by side; one file is one process's, so that what its tests share is made once.
WORKERS ?= 2

# Networks this small run fastest on one thread, and spinning threads collapse on a busy machine.
export OMP_NUM_THREADS ?= 1

# Where no GPU is present, the CPU build of torch: PyPI's own brings gigabytes of CUDA. Its index is only named where it
# can be reached; elsewhere (behind a mirror, or with local wheels) pip takes the build that it is set up to find.
TORCH := torch==2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
reachable = $(PYTHON) -c 'from urllib.request import urlopen; urlopen("$(CPU_INDEX)/torch/", timeout=5)'
torch_index = $(shell nvidia-smi >/dev/null 2>&1 || { $(reachable) 2>/dev/null && echo --extra-index-url $(CPU_INDEX); })

.PHONY: demo test lint bench setup clean

demo: $(READY)
	$(BIN)/prefgym backflip $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/throughput.py $(ARGS)

setup: $(READY)

$(READY): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH) $(torch_index)
	$(BIN)/python -m pip install --quiet --editable .[bench,dev,lora,ray,text,video]
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .*_cache
