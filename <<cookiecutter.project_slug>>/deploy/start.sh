#!/bin/sh
# Fill the files in and start nginx and the application under supervisord, in the foreground.
set -eu
cd "$(dirname "$0")/.."
run="${RUN_FOLDER:-run}"
bin="${VENV:-.venv}/bin"
PATH="$PATH:/usr/sbin"

"$bin/python" deploy/render.py \
    nginx/nginx.conf nginx/site.conf supervisord/supervisord.conf "$run"
# nginx and supervisord open their standard output anew, which cannot be done with a socket (the
# journal's), and would overwrite what is in a file.
if [ -S /dev/fd/1 ] || [ -f /dev/fd/1 ]; then
    rm -f "$run/output"
    mkfifo -m 600 "$run/output"
    (
        trap '' INT TERM HUP
        exec cat "$run/output"
    ) &
    exec >"$run/output" 2>&1
fi
nginx -t -q -e stderr -c "$(realpath "$run")/nginx.conf"
# % if cookiecutter.database != "none"
# Once, and not in each process; by the user who will use them. A container's prestart.sh has done it.
if [ ! -f prestart.sh ]; then
    set -- "$bin/alembic" upgrade heads
    if [ "$(id -u)" = 0 ]; then
        set -- runuser -u "$(sed -n '/^.program:app/,$s/^user=//p' "$run/supervisord.conf")" -- "$@"
    fi
    (umask 027 && "$@")
fi
# % endif
# Each open page is a connection, and that a file.
# shellcheck disable=SC3045 # dash has these too
ulimit -S -n "$(ulimit -H -n)"
exec "$bin/supervisord" -c "$run/supervisord.conf"
