import pytest

# % filter replace("package_name", cookiecutter.package_name)
from package_name.deployment import Deployment
from package_name.settings import read


# % endfilter
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "0", "greater than or equal to 1"),
        ("WEB_CONCURRENCY", "0", "greater than or equal to 1"),
        ("APP_SERVER", "uwsgi", "'gunicorn' or 'pool'"),
        ("SERVICE_USER", "my service", "not the name of a user"),
        ("RUN_FOLDER", "/run/my service", "only letters, digits"),
        ("RUN_FOLDER", "/run/$HOME", "only letters, digits"),
        ("LISTEN_ADDRESS", "localhost; root /", "does not appear to be an IPv4 or IPv6 address"),
        ("NGINX_MAX_UPLOAD", "200 MB", "should match pattern"),
        ("NGINX_WORKER_PROCESSES", "many", "should match pattern"),
        ("TLS_KEY", "key.pem", "set both or neither"),
        ("NGINX_WORKER_OPEN_FILES", "64", "at least twice"),
        ("LISTEN_ADDRESS", "::1::", "does not appear"),
    ],
)
def test_wrong_value_of_a_deployment_setting_is_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as error:
        read(Deployment)
    (line,) = str(error.value).splitlines()[1:]
    assert name in line
    assert message in line
