"""Exit with 0 when /livez answers at an address as gunicorn has them: host:port or unix:path."""

import socket
import sys
from http.client import HTTPConnection

host, _, port = sys.argv[1].rpartition(":")
connection = HTTPConnection(host.strip("[]"), timeout=5)
if host == "unix":
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    connection.sock.connect(port)
else:
    connection.port = int(port)
connection.request("GET", "/livez")
sys.exit(connection.getresponse().status != 200)
