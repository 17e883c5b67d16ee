#!/bin/sh
# Replace the processes of whichever server runs by new ones, and lose no request.
set -eu
cd "$(dirname "$0")/.."
name="<< cookiecutter.__service >>"
title="<< cookiecutter.project_slug >>"
bin="${VENV:-.venv}/bin"
run=
if [ -x "$bin/python" ]; then # which it need not be where containers run
    run="$("$bin/python" -m << cookiecutter.package_name >>.deployment run_folder)"
fi
engine="${ENGINE:-docker}"

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

# Wrong settings stop here, and whatever runs goes on.
check() {
    "$bin/gunicorn" --check-config --config deploy/gunicorn.conf.py
}

if [ -S "$run/supervisor.sock" ]; then
    # One at a time.
    exec 9<"$run/reload.lock"
    flock 9
    check
    members=$(supervisor status | sed -n 's/^\(site:app_[0-9]*\) .*/\1/p')
    if [ -z "$members" ]; then
        supervisor signal HUP site:app
    fi
    # Of a pool one at a time, while nginx asks the others.
    for member in $members; do
        supervisor restart "$member"
        wait_until test -S "$run/sockets/${member#site:}.sock"
    done
elif grep -q gunicorn /proc/1/cmdline; then # in a container without nginx
    check
    kill -HUP 1
elif systemctl is-active --quiet "$name" 2>/dev/null; then
    systemctl reload "$name"
else
    containers=$($engine ps --quiet --filter "label=org.opencontainers.image.title=$title") || true
    if [ -z "$containers" ]; then
        echo "$name runs neither under supervisord (in $run) nor systemd nor $engine" >&2
        exit 1
    fi
    for container in $containers; do
        # Compose's nginx has nothing to replace. What prestart.sh has set, only the first process knows.
        # shellcheck disable=SC2016 # of the inner shell
        $engine exec "$container" sh -c 'grep -q nginx /proc/1/cmdline ||
            xargs -0 -a /proc/1/environ sh -c "exec env \"\$@\" deploy/reload.sh" env'
    done
fi
