"""Health check that exits with 0 if /livez responds with 200: ``python healthcheck.py ADDRESS``.

ADDRESS is unix:path, host:port, ``app`` for the application's address, or ``nginx`` for nginx's.
"""

import os
import socket
import sys
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment
from package_name.environment import read

# % endfilter
# Only the first process has the variables that prestart.sh sets.
with suppress(PermissionError):
    for item in filter(None, Path("/proc/1/environ").read_bytes().split(b"\0")):
        name, _, value = item.partition(b"=")
        os.environb[name] = value
address = sys.argv[1]
if address in {"app", "nginx"}:
    deployment = read(Deployment)
    address = deployment.address
    if sys.argv[1] == "nginx":
        address = f"{deployment.listen_address or '127.0.0.1'}:{deployment.listen_port}"
host, _, port = address.rpartition(":")
connection = HTTPConnection(host.strip("[]"), timeout=5)
if address.startswith("unix:"):
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    connection.sock.connect(address.removeprefix("unix:"))
else:
    connection.port = int(port)
connection.request("GET", "/livez")
sys.exit(connection.getresponse().status != 200)
