# Touchmark. `make` lists what there is; everything is built into one folder, with Cargo's profile `dev`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help check test demo bench fuzz fmt clean install

# One folder for every target and for what the targets start.
export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# `make LOCKED=--locked ...` fails if Cargo.lock would have to change.
LOCKED ?=

help:
	@echo 'make demo    the main path on simulated hosts, step by step, in about a minute once built'
	@echo 'make test    install what is missing, build, and run all tests'
	@echo 'make check   formatting, lints, documentation, dependencies'
	@echo 'make bench   measure, and print the table of targets and results'
	@echo 'make fuzz    fuzz every parser for two minutes (FUZZ_SECONDS, FUZZ_TARGETS)'
	@echo 'make fmt     format all sources'
	@echo 'make clean   remove everything that was built'

install:
	@bash .ci/install

check:
	@step() { printf -- '-- %s\n' "$$*"; "$$@"; }; \
	deny="$$(bash .ci/install cargo-deny)"; \
	step cargo fmt --all --check; \
	step cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings; \
	RUSTDOCFLAGS='-D warnings' step cargo doc $(LOCKED) --workspace --no-deps; \
	CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a step cargo check $(LOCKED) --quiet --manifest-path tests/fuzz/Cargo.toml --bins; \
	step cargo fetch $(LOCKED) --quiet; \
	step "$$deny" $(LOCKED) --offline --config .cargo/deny.toml check --allow unused-wrapper bans licenses sources

test: install
	cargo fetch $(LOCKED) --quiet
	cargo build $(LOCKED) --workspace
	cargo test $(LOCKED) --workspace --no-fail-fast

demo: install
	@echo 'Building (the first time takes some minutes) ...'
	@cargo build $(LOCKED) --workspace --bins --examples
	@TOUCHMARK_BIN="$$CARGO_TARGET_DIR/debug" bash tests/demo.sh

bench: install
	@echo 'Building with optimization (the first time takes some minutes) ...'
	@cargo build $(LOCKED) --release --workspace --bins
	@cargo bench $(LOCKED) --package touchmark-tests --bench performance

fuzz: install
	@bash tests/fuzz/run

fmt:
	@cargo fmt --all

clean:
	@cargo clean
