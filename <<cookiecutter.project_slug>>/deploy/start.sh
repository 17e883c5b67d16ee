#!/bin/sh
# Fill the files in and start nginx and the application under supervisord, in the foreground.
set -eu
cd "$(dirname "$0")/.."
bin="${VENV:-.venv}/bin"
run="$("$bin/python" -m << cookiecutter.package_name >>.deployment run_folder)"
PATH="$PATH:/usr/sbin"

"$bin/python" deploy/render.py \
    nginx/nginx.conf nginx/site.conf supervisord/supervisord.conf "$run"
"$bin/python" deploy/json_log.py nginx -t -q -e stderr -c "$(realpath "$run")/nginx.conf"
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
exec "$bin/python" deploy/json_log.py "$bin/supervisord" -c "$run/supervisord.conf"
