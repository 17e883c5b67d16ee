#!/bin/sh
# Install the Debian packages that are missing: `system-packages.sh demo` or `system-packages.sh test`.
# As root or with password-less sudo it installs them; otherwise it names the one line to run.
set -eu

missing=""
need() { # need <program> <package>
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if [ "$1" = test ]; then
    need chromium chromium
    need nginx nginx
fi
if [ "$1" = bench ]; then
    need wrk wrk
fi
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
echo "Installing:$missing"
$sudo apt-get -qq update
$sudo env DEBIAN_FRONTEND=noninteractive $install >/dev/null
