#!/bin/sh
# Take all that has changed into use - code, dependencies, settings, nginx's files - and lose no
# request. An error of any part is this script's, and what runs goes on.
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
PATH="$PATH:/usr/sbin"
began=$(date +%s)
again="${1:-}"

fail() {
    echo "$*" >&2
    exit 1
}

supervisor() {
    "$bin/supervisorctl" -c "$run/supervisord.conf" "$@"
}

# Wait for a command to succeed, at most a minute.
wait_until() {
    for _ in $(seq 600); do
        if "$@"; then return; fi
        sleep 0.1
    done
    return 1
}

answers() {
    "$bin/python" deploy/docker/healthcheck.py "unix:$1" 2>/dev/null
}

# Tell whether nginx has to read $2, in place of $1: it is another, or names a newer certificate.
is_new() {
    if ! cmp -s "$1" "$2"; then return; fi
    files=$(sed -n 's/^ *ssl_certificate\(_key\)\{0,1\} \(.*\);/\2/p' "$2")
    for file in $files; do
        if [ "$file" -nt "$1" ]; then return; fi
    done
    return 1
}

# Run one more server of the pool for a moment. If it does not answer, show what it wrote.
try_one() {
    set -- "$bin/python" -m << cookiecutter.package_name >> --path "$run/sockets/trial.sock"
    if [ "$(id -u)" = 0 ]; then
        user=$(sed -n '/^.program:app/,$s/^user=//p' "$run/supervisord.conf")
        set -- runuser -u "$user" -- env "HOME=$PWD" "RUNTIME_DIRECTORY=$run/sockets" "$@"
    fi
    (umask 027 && exec "$@") >"$next/log" 2>&1 9>&- &
    trial=$!
    wait_until has_tried || true
    if ! answers "$run/sockets/trial.sock"; then
        kill "$trial" 2>/dev/null || true
        tail -n 40 "$next/log" >&2
        fail "a server with what has changed does not answer"
    fi
    kill "$trial"
    wait "$trial" || true
}

has_tried() {
    answers "$run/sockets/trial.sock" || ! kill -0 "$trial" 2>/dev/null
}

# Tell whether none of the workers of nginx accepts connections any more.
have_left() {
    for worker in $workers; do
        if [ -e "/proc/$worker" ] && ! grep -qs "shutting down" "/proc/$worker/cmdline"; then
            return 1
        fi
    done
}

reload_supervised() {
    if [ "$again" = "" ]; then
        # With the variables that its processes have, whatever those of this shell are.
        exec xargs -0 -a "/proc/$(cat "$run/supervisord.pid")/environ" \
            sh -c 'exec env -i "$@" deploy/reload.sh again' env
    fi
    next="$(realpath "$run")/next"
    trap 'rm -rf "$next"' EXIT
    exec 9<"$run/reload.lock"
    flock 9 # one at a time
    "$bin/python" deploy/render.py \
        nginx/nginx.conf nginx/site.conf supervisord/supervisord.conf "$next"
    nginx -t -q -e stderr -c "$next/nginx.conf"

    members=$(supervisor status | sed -n 's/^site:\(app_[0-9]*\) .*/\1/p')
    if [ -z "$members" ]; then
        "$bin/python" deploy/serve.py --reload "$run/sockets/serve.sock"
    else
        try_one
    fi
    # One at a time, while nginx asks the others; so first those that do not answer.
    up=
    down=
    for member in $members; do
        if answers "$run/sockets/$member.sock"; then up="$up $member"; else down="$down $member"; fi
    done
    for member in $down $up; do
        supervisor restart "site:$member"
        wait_until answers "$run/sockets/$member.sock" || fail "site:$member does not answer"
    done

    if is_new "$run/site.conf" "$next/site.conf" || ! cmp -s "$run/nginx.conf" "$next/nginx.conf"; then
        nginx=$(supervisor pid site:nginx)
        workers=$(cat "/proc/$nginx/task/$nginx/children")
        mv "$next/nginx.conf" "$next/site.conf" "$run"
        supervisor signal HUP site:nginx
        wait_until have_left || fail "nginx does not take its new files; its log says why"
    fi
    if ! cmp -s "$run/supervisord.conf" "$next/supervisord.conf"; then
        echo "supervisord.conf has changed: stop deploy/start.sh and start it again for that"
    fi
}

reload_service() {
    if ! systemctl reload "$name"; then
        journalctl --unit "$name" --since "@$began" --lines 40 --output cat --no-pager >&2
        return 1
    fi
}

# As root, with the units and nginx's site where deploy/README.md has them.
reload_installed() {
    next=$(mktemp --directory)
    site="/etc/nginx/sites-enabled/$name"
    trap 'rm -rf "$next"' EXIT
    "$bin/python" deploy/render.py systemd/app.service systemd/app.socket nginx/site.conf "$next"
    cp "$site" "$next/before"
    if is_new "$site" "$next/site.conf"; then
        cat "$next/site.conf" >"$site"
        # The application has not been told yet, so that all can be as before.
        if ! nginx -t -q || ! reload_service; then
            cat "$next/before" >"$site"
            exit 1
        fi
        systemctl reload nginx
    else
        reload_service
    fi
    for unit in service socket; do
        path=$(systemctl show --value --property FragmentPath "$name.$unit")
        if ! cmp -s "$path" "$next/app.$unit"; then
            cat "$next/app.$unit" >"$path"
            systemctl daemon-reload
            echo "$name.$unit has changed: systemctl restart $name.$unit for that"
        fi
    done
}

reload_containers() {
    containers=$($engine ps --quiet --filter "label=org.opencontainers.image.title=$title") || true
    if [ -z "$containers" ]; then
        fail "$name runs neither under supervisord (in $run) nor systemd nor $engine"
    fi
    for container in $containers; do
        # Compose's nginx has nothing to replace.
        $engine exec "$container" sh -c 'grep -q nginx /proc/1/cmdline || exec deploy/reload.sh'
    done
}

if [ -S "$run/supervisor.sock" ]; then
    reload_supervised
elif grep -q serve.py /proc/1/cmdline; then # in a container without nginx
    "$bin/python" deploy/serve.py --reload "$(tr '\0' '\n' </proc/1/cmdline | tail -n 1)"
elif systemctl is-active --quiet "$name" 2>/dev/null; then
    if [ "$(id -u)" = 0 ]; then reload_installed; else reload_service; fi
else
    reload_containers
fi
echo "reloaded after $(($(date +%s) - began)) s"
