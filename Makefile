# Each target does its own set-up. `make help` lists them.
.PHONY: help demo test lint bench images clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

demo: ## Converge two real nodes from a git repository and show it (KEEP=1 leaves them running)
	@scripts/setup lab el9 debian12-web
	@.venv/bin/python -m demo $(if $(KEEP),--keep)

test: ## Run every test
	@scripts/test $(ARGS)

lint: ## Check format, lint, types and import contracts
	@scripts/lint

bench: ## Measure reconciles against their floor
	@scripts/setup lab el9-web debian12-web
	@.venv/bin/python -m bench $(ARGS)

images: ## Build the node images that are missing
	@scripts/setup lab

clean: ## Remove the virtual environment and caches of this checkout
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
