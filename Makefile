# The few words people type. DB=embedded (default: SQLite and a Valkey from a wheel) or DB=mariadb.
DB ?= embedded
export DB
MAKEFLAGS += --no-print-directory

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "make bench ARGS='--rounds 2 --servers wsgi' passes options on; bin/manage bench --help lists them."
	@echo "DB=mariadb runs demo, compare, serve and services on MariaDB and Redis, started under var/."

demo:  ## From a bare clone to a running sale: install, sell, print the table, leave the shop up
	@bin/bootstrap && bin/services start && bin/demo

test:  ## Run the whole suite, embedded and on MariaDB + Redis
	@bin/bootstrap --dev && bin/test

test-long:  ## Before a release: 100,000 contended sales by every strategy, on MariaDB + Redis
	@export DB=mariadb; bin/bootstrap --dev && bin/services start && bin/test-long

compare:  ## The original experiment: every strategy, in repeated rounds
	@bin/bootstrap && bin/services start && bin/manage migrate --verbosity 0 && bin/manage compare_strategies

bench:  ## Every strategy on each server, 1 to 1000 at a time, on MariaDB + Redis: tables and charts
	@export DB=mariadb; bin/bootstrap --bench && bin/services start && bin/manage migrate --verbosity 0 && bin/manage bench $(ARGS)

serve:  ## Serve the shop until Ctrl-C
	@bin/bootstrap && bin/services start && bin/shop serve

services:  ## Start the database and Redis under var/ and say where they are
	@bin/bootstrap && bin/services start && cat var/$(DB).env

stop:  ## Stop the shop and the services under var/
	@bin/shop stop; bin/services stop

lint:  ## Check style, types, imports and migrations
	@bin/bootstrap --dev && bin/lint

format:  ## Format the code
	@bin/bootstrap --dev && .venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

.PHONY: help demo test test-long compare bench serve services stop lint format
.DEFAULT_GOAL := help
