#!/bin/sh
# Install the Debian packages that are missing:
#     tests/system-packages.sh check|demo|test|bench
# As root or with password-less sudo it installs them; otherwise it prints the command to run. Without
# them `make test` skips the tests that need them, and says so; with CI set, and for the others, that
# is an error.
set -eu

python="${PYTHON:-python3}"
target="${1:-}"
missing="" # what nothing works without
wanted=""  # what some tests need
PATH="$PATH:/usr/sbin:/sbin" # where nginx and ldconfig are, and a user's path is not
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done # no path leads there at all

need() { # need <program> <package>
    command -v "$1" >/dev/null 2>&1 || wanted="$wanted $2"
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
case "$target" in
check | demo) ;;
test)
    need chromium chromium
    need curl curl
    need debootstrap debootstrap
    need nginx nginx
    need openssl openssl
    need podman podman
    need initdb postgresql
    need runc runc
    need sqlite3 sqlite3
    need systemd-analyze systemd
    need systemd-nspawn systemd-container
    [ -e /usr/lib/nginx/modules/ngx_http_brotli_static_module.so ] ||
        wanted="$wanted libnginx-mod-http-brotli-static"
    # Playwright's own node needs it, and brings it not.
    ldconfig -p | grep -q 'libatomic\.so\.1' || wanted="$wanted libatomic1"
    ;;
bench)
    need initdb postgresql
    need wrk wrk
    ;;
*)
    echo "usage: $0 check|demo|test|bench" >&2
    exit 2
    ;;
esac
[ -n "$missing$wanted" ] || exit 0

install="apt-get install --yes --no-install-recommends$missing$wanted"
if ! command -v apt-get >/dev/null 2>&1; then
    sudo="none"
elif [ "$(id -u)" = 0 ]; then
    sudo=""
elif sudo -n true 2>/dev/null; then
    sudo="sudo"
else
    sudo="none"
fi
if [ "$sudo" = none ]; then
    echo "Missing:$missing$wanted. On Debian, run: sudo apt-get update && sudo $install" >&2
    [ -z "$missing" ] && [ "$target" = test ] && [ -z "${CI:-}" ] || exit 1
    echo "The tests that need them are skipped." >&2
    exit 0
fi
echo "Installing Debian packages, which may take a minute:$missing$wanted"
$sudo apt-get -qq update
# shellcheck disable=SC2086  # several words
$sudo env DEBIAN_FRONTEND=noninteractive $install >/dev/null
