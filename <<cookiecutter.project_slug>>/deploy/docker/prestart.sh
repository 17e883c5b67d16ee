#!/bin/sh
# What is to be done in /app before the server starts: put it here, or mount another file in its place,
# as /app/prestart.sh. entrypoint.sh reads it with `set -eu`, so what fails stops the start, and what is
# exported reaches the server:
#     export WEB_CONCURRENCY="$(nproc)"
# % if cookiecutter.database != "none"
# In every container, but compose.yaml has one for this; two that start at once wait for each other.
alembic upgrade heads
# % endif
