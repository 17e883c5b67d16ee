#!/bin/sh
# What every container begins with: prestart.sh, if there is one, then the command of the image.
set -eu
if [ -f prestart.sh ]; then
    # shellcheck source=deploy/docker/prestart.sh
    . ./prestart.sh
fi
exec "$@"
