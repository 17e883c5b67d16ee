# The template's own targets; `make` lists them. What it bakes has a Makefile of its own.
PYTHON ?= python3
VENV = $(CURDIR)/.cache/venv
BIN = $(VENV)/bin
TEMPLATE = <<cookiecutter.project_slug>>
PORT ?= 8080
export PYTHON
# Else every server that a test starts would compile all of its source again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo check test bench lint format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Bake the default project into demo/ (anew) and serve it at http://localhost:8080, with an admin
	@tests/system-packages.sh demo
	@$(MAKE) --silent $(VENV)/installed
	@rm -rf demo
	@$(BIN)/cookiecutter --no-input --default-config --output-dir demo . >/dev/null
	@echo "Installing demo/my-service"
	@PATH="$(BIN):$$PATH" $(MAKE) --silent -C demo/my-service seed
	@cd demo/my-service && password=$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(12))') \
		&& hash=$$(.venv/bin/python -c "from my_service.passwords import HASHER; print(HASHER.hash('$$password'))") \
		&& echo "ADMIN_USERS='ada:$$hash'" >> .env \
		&& echo "The admin is at http://localhost:$(PORT)/admin/, the name is ada, the password $$password"
	@echo "Serving demo/my-service at http://localhost:$(PORT); Ctrl-C stops it"
	@$(MAKE) --no-print-directory -C demo/my-service run PORT=$(PORT) HOST=127.0.0.1

check: lint ## Run the checks that need neither root nor a server
	@PATH="$(BIN):$$PATH" $(BIN)/pytest --numprocesses auto -m quick

# More workers than cores, as many tests wait for servers.
test: ## Run every test of the template, on what it bakes; contains make check
	@tests/system-packages.sh test
	@$(MAKE) --silent lint
	@PATH="$(BIN):$$PATH:/usr/sbin:/sbin" $(BIN)/pytest --numprocesses 6 --dist loadgroup --no-loadscope-reorder

bench: ## Measure the baked application side by side with the smallest one
	@tests/system-packages.sh bench
	@$(MAKE) --silent $(VENV)/installed
	@PATH="$(BIN):$$PATH" $(BIN)/python bench/run.py

lint: ## Look for mistakes in the template: ruff, mypy
	@tests/system-packages.sh check
	@$(MAKE) --silent $(VENV)/installed
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy

format: $(VENV)/installed ## Format the template
	$(BIN)/ruff check --no-cache --fix .
	$(BIN)/ruff format --no-cache .

clean: ## Remove all that was made
	rm -rf .cache demo

# uv is taken from the pinned list, so that one command installs all of it.
$(VENV)/installed: tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	@echo "Installing the template's tools"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' $< | cut -d ' ' -f 1)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python $<
	@touch $@
