# One entry point for people; `make` alone lists the targets.
# Variables: PREFIX (install), CUDA=1 (libtorch with its CUDA libraries), CARGO_TARGET_DIR.

CARGO ?= cargo
PYTHON ?= python3
PREFIX ?= $(HOME)/.local
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CUDA_FLAG := $(if $(CUDA),--cuda)

# The examples in the documentation run too, and find libtorch as the other tests do.
DOCTEST_FLAGS := RUSTDOCFLAGS="-C link-arg=-Wl,-rpath,$(or $(LIBTORCH),$(CURDIR)/.libtorch)/lib $(RUSTDOCFLAGS)"

.DEFAULT_GOAL := help
.PHONY: help demo test build libtorch preflight install dist nightly lint fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: build ## build, run the quickstart sweep, show its leaderboard
	@scripts/demo.sh $(TARGET_DIR)/release

# The tests start the real programs; --tests keeps one set of features, so nothing builds twice.
test: libtorch ## run all tests
	$(CARGO) build --locked --workspace --bins --tests
	$(DOCTEST_FLAGS) $(CARGO) test --locked --workspace

build: libtorch ## build the programs (release)
	$(CARGO) build --locked --release -p deptune -p deptune-trainer

libtorch: preflight ## put libtorch into .libtorch/ (CUDA=1: with its CUDA libraries)
	@$(PYTHON) scripts/libtorch.py $(CUDA_FLAG)

preflight: ## name what this machine lacks
	@scripts/preflight.sh $(CUDA_FLAG)

install: build ## install into PREFIX (~/.local); runs without the checkout
	@$(PYTHON) scripts/package.py install --programs $(TARGET_DIR)/release --prefix '$(PREFIX)'

dist: build ## make dist/deptune-VERSION-linux-ARCH.tar.gz for machines without a toolchain
	@$(PYTHON) scripts/package.py dist --programs $(TARGET_DIR)/release

nightly: libtorch ## run the long tests too
	scripts/nightly.sh

lint: libtorch ## check the format and run clippy; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt: ## format the sources
	$(CARGO) fmt --all

clean: ## remove what was built; libtorch and the demo's results stay
	$(CARGO) clean
	rm -rf dist
