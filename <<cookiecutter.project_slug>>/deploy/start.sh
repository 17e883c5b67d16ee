#!/bin/sh
# Fill the files in and start nginx and the application under supervisord, in the foreground.
set -eu
cd "$(dirname "$0")/.."
run="${RUN_FOLDER:-run}"
bin="${VENV:-.venv}/bin"
"$bin/python" deploy/render.py \
    nginx/nginx.conf nginx/site.conf supervisord/supervisord.conf "$run"
exec "$bin/supervisord" -c "$run/supervisord.conf"
