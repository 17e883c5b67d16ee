#!/bin/sh
# What every container begins with: prestart.sh, if there is one, then the command of the image.
set -eu
# A platform that chooses the port gives PORT, which is gunicorn's without nginx, and nginx's with it.
export LISTEN_PORT="${LISTEN_PORT:-$PORT}"
if [ -f prestart.sh ]; then
    # shellcheck source=deploy/docker/prestart.sh
    . ./prestart.sh
fi
exec "$@"
