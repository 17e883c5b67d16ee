#!/bin/sh
# Replace the processes of whichever server runs by new ones, and lose no request.
set -eu
cd "$(dirname "$0")/.."
name="<< cookiecutter.project_slug >>"
run="${RUN_FOLDER:-run}"
bin="${VENV:-.venv}/bin"

supervisor() {
    "$bin/supervisorctl" -c "$run/supervisord.conf" "$@"
}

# Wait for $1, at most a minute.
wait_until() {
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "waited in vain: $*" >&2
    exit 1
}

if [ -S "$run/supervisor.sock" ]; then
    # Wrong settings stop here, and whatever runs goes on.
    "$bin/gunicorn" --check-config --config deploy/gunicorn.conf.py
    members=$(supervisor status | sed -n 's/^\(site:app_[0-9]*\) .*/\1/p')
    if [ -z "$members" ]; then
        supervisor signal HUP site:app
    fi
    # Of a pool one at a time, while nginx asks the others.
    for member in $members; do
        supervisor restart "$member"
        wait_until test -S "$run/${member#site:}.sock"
    done
elif systemctl is-active --quiet "$name" 2>/dev/null; then
    systemctl reload "$name"
elif [ -n "$(docker ps --quiet --filter "name=^$name\$" 2>/dev/null)" ]; then
    docker exec "$name" deploy/reload.sh
else
    echo "$name runs neither under supervisord (in $run) nor systemd nor Docker" >&2
    exit 1
fi
