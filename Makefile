# Everything lives in .venv; nothing else is touched. `make help` lists what there is.
PYTHON ?= python3
FORECAST := .venv/bin/forecast
OUT := demo_output

# Small tensors on few cores: a thread each for the two test processes is faster than two threads for both.
TEST_THREADS ?= 1

.PHONY: help setup demo test test-triton test-faults test-mutants test-environments lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: .venv/installed  ## install into .venv

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## forecasts of simulated and real fields, an equation, a sea bed; pictures in demo_output
	rm -rf $(OUT) && mkdir $(OUT)
	#
	# 1. Simulated turbulence: 60 flows, 50 to train on, 10 to forecast.
	#
	$(FORECAST) simulate navier-stokes --samples 60 --frames 50 --seed 1 -o $(OUT)/flow.nc
	$(FORECAST) info $(OUT)/flow.nc
	$(FORECAST) train $(OUT)/flow.nc --preset navier-stokes --split 45,5,10 --epochs 6 -o $(OUT)/flow_run
	$(FORECAST) rollout $(OUT)/flow_run --data $(OUT)/flow.nc --select sample=50:60 --context 20 --steps 30 -o $(OUT)/flow_forecast.nc
	$(FORECAST) evaluate $(OUT)/flow_forecast.nc --truth $(OUT)/flow.nc --baseline persistence,climatology --bootstrap 500 -o $(OUT)/flow_scores.nc
	$(FORECAST) plot $(OUT)/flow_scores.nc -o $(OUT)/flow_scores.png
	$(FORECAST) plot $(OUT)/flow_forecast.nc --truth $(OUT)/flow.nc -o $(OUT)/flow_forecast.png
	$(FORECAST) plot $(OUT)/flow_forecast.nc --truth $(OUT)/flow.nc -o $(OUT)/flow_forecast.gif
	#
	# 2. A real file: yearly air temperature over North America, a Met Office climate projection (sample_data/README.md).
	#
	$(FORECAST) info sample_data/E1_north_america.nc
	$(FORECAST) train sample_data/E1_north_america.nc --hidden 2x16 --context 8 --horizon 4 --epochs 8 -o $(OUT)/e1_run
	$(FORECAST) rollout $(OUT)/e1_run --data sample_data/E1_north_america.nc --steps 10 -o $(OUT)/e1_forecast.nc
	$(FORECAST) evaluate $(OUT)/e1_forecast.nc --truth sample_data/E1_north_america.nc --metric rmse,acc --baseline persistence,persistence:5,climatology -o $(OUT)/e1_scores.nc
	$(FORECAST) plot $(OUT)/e1_scores.nc -o $(OUT)/e1_scores.png
	$(FORECAST) plot $(OUT)/e1_forecast.nc --truth sample_data/E1_north_america.nc -o $(OUT)/e1_forecast.png
	#
	# 3. An equation with unknown parts: advection velocity and diffusivity of Burgers' equation, learned from 151 frames.
	#
	$(FORECAST) simulate burgers --duration 1 --frames 201 -o $(OUT)/burgers.nc
	$(FORECAST) train $(OUT)/burgers.nc --model finn --set model.equation=burgers --set 'model.learn=["advection", "D"]' --split-along time --split 151,0,50 -o $(OUT)/burgers_run
	$(FORECAST) plot $(OUT)/burgers_run/closures.nc -o $(OUT)/burgers_closures.png
	$(FORECAST) rollout $(OUT)/burgers_run --data $(OUT)/burgers.nc -o $(OUT)/burgers_forecast.nc
	$(FORECAST) evaluate $(OUT)/burgers_forecast.nc --truth $(OUT)/burgers.nc --metric relative_l2 --baseline persistence -o $(OUT)/burgers_scores.nc
	$(FORECAST) plot $(OUT)/burgers_forecast.nc --truth $(OUT)/burgers.nc -o $(OUT)/burgers_forecast.png
	#
	# 4. A sea bed from the waves above it: a real relief, whole fields with noise, then 25 gauges.
	#
	.venv/bin/python sample_data/relief.py $(OUT)/relief.nc
	$(FORECAST) simulate shallow-water --topography $(OUT)/relief.nc --samples 4 --every 4 --noise 1% -o $(OUT)/waves.nc
	$(FORECAST) invert-topography $(OUT)/waves.nc --select sample=0:1 --truth $(OUT)/relief.nc -o $(OUT)/bed.nc
	$(FORECAST) plot $(OUT)/bed.nc -o $(OUT)/bed.png
	$(FORECAST) invert-topography $(OUT)/waves.nc --variable eta --gauges sample_data/gauges.csv --noise 1% --truth $(OUT)/relief.nc -o $(OUT)/bed_gauges.nc
	$(FORECAST) plot $(OUT)/bed_gauges.nc -o $(OUT)/bed_gauges.png
	#
	# Done: look at $(OUT)/*.png and $(OUT)/flow_forecast.gif
	#

test: setup lint  ## lint, then run the tests
	OMP_NUM_THREADS=$(TEST_THREADS) .venv/bin/python -m pytest -n 2

test-triton: setup  ## the Triton kernels in Triton's interpreter (downloads triton, about 200 MB)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/triton 'triton>=3.7'
	PYTHONPATH=.venv/triton .venv/bin/python -m pytest -n 2 tests/scan/test_triton.py

test-faults: setup  ## kill, stop and starve trainings and rollouts, feed them what nobody meant; at most 15 minutes
	OMP_NUM_THREADS=$(TEST_THREADS) timeout 900 .venv/bin/python -m pytest -n 2 -m 'faults or not faults' tests/faults

test-mutants: setup  ## put one fault after another into a copy of the package, and see a test fail for each
	PYTHONPATH=tests .venv/bin/python -m mutants $(MUTANTS)

test-environments: setup  ## the tests with other instruction sets, without compiler or HOME, in another order, ...; an hour
	OMP_NUM_THREADS=$(TEST_THREADS) .venv/bin/python tests/environments.py -- -n 2

lint: setup  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup  ## let ruff format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

clean:  ## remove the environment and the demo's output
	rm -rf .venv $(OUT) build dist
