#!/bin/sh
# Install the Debian packages that are missing for `make demo`, `make test` or `make bench`:
#     tests/system-packages.sh demo|test|bench
# As root or with password-less sudo it installs them; otherwise it names the one line to run.
set -eu

python="${PYTHON:-python3}"
missing=""
PATH="$PATH:/usr/sbin:/sbin" # where nginx and ldconfig are, and a user's path is not
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done # no path leads there at all

need() { # need <program> <package>
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

if ! command -v "$python" >/dev/null 2>&1; then
    echo "There is no $python; Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    case "$python" in
    python3.*) missing="$missing $python-venv" ;;
    *) missing="$missing python3-venv" ;;
    esac
fi
case "${1:-}" in
demo) ;;
test)
    need chromium chromium
    need curl curl
    need debootstrap debootstrap
    need nginx nginx
    need openssl openssl
    need podman podman
    need initdb postgresql
    need runc runc
    need systemd-analyze systemd
    need systemd-nspawn systemd-container
    [ -e /usr/lib/nginx/modules/ngx_http_brotli_static_module.so ] ||
        missing="$missing libnginx-mod-http-brotli-static"
    # Playwright's own node needs it, and brings it not.
    ldconfig -p | grep -q 'libatomic\.so\.1' || missing="$missing libatomic1"
    ;;
bench)
    need initdb postgresql
    need wrk wrk
    ;;
*)
    echo "usage: $0 demo|test|bench" >&2
    exit 2
    ;;
esac
[ -n "$missing" ] || exit 0

install="apt-get install --yes --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif sudo -n true 2>/dev/null; then
    sudo="sudo"
else
    echo "Missing:$missing. Please run: sudo apt-get update && sudo $install" >&2
    exit 1
fi
echo "Installing Debian packages, which may take a minute:$missing"
$sudo apt-get -qq update
# shellcheck disable=SC2086  # several words
$sudo env DEBIAN_FRONTEND=noninteractive $install >/dev/null
