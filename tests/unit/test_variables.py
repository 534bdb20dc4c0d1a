"""The environment: ours, an orchestrator's, misspelt ones, and secrets in files."""

from pathlib import Path

import pytest

from worker.config import Settings, settings
from worker.errors import SettingsError

SERVICE_LINKS = {
    "WITHDRAWALS_SERVICE_HOST": "10.96.0.7",
    "WITHDRAWALS_SERVICE_PORT": "8000",
    "WITHDRAWALS_SERVICE_PORT_HTTP": "8000",
    "WITHDRAWALS_PORT": "tcp://10.96.0.7:8000",
    "WITHDRAWALS_PORT_8000_TCP": "tcp://10.96.0.7:8000",
    "WITHDRAWALS_PORT_8000_TCP_PROTO": "tcp",
    "WITHDRAWALS_PORT_8000_TCP_PORT": "8000",
    "WITHDRAWALS_PORT_8000_TCP_ADDR": "10.96.0.7",
    "WITHDRAWALS_WEB_SERVICE_HOST": "10.96.0.8",
    "WITHDRAWALS_WEB_PORT": "tcp://10.96.0.8:80",
    "WITHDRAWALS_WEB_PORT_80_TCP_ADDR": "10.96.0.8",
}
"""What Kubernetes sets in every container beside services named `withdrawals` and `withdrawals-web`."""


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    settings.cache_clear()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def refused() -> str:
    with pytest.raises(SettingsError) as found:
        settings()
    return str(found.value)


def test_what_an_orchestrator_adds_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SERVICE_LINKS)
    assert (settings().host, settings().port) == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("WITHDRAWALS_SERVICE_HOSTS", "unknown setting"),
        ("WITHDRAWALS_PORTS", "Did you mean WITHDRAWALS_PORT?"),
        ("WITHDRAWALS_WEB_PORT", "unknown setting"),
        ("WITHDRAWALS_PORT_TCP", "unknown setting"),
        ("WITHDRAWALS_SECRET_KEYS", "Did you mean WITHDRAWALS_SECRET_KEY?"),
        ("WITHDRAWALS_SECRET_KEY_FILES", "Did you mean WITHDRAWALS_SECRET_KEY_FILE?"),
        ("WITHDRAWALS_PORT_FILE", "unknown setting"),
    ],
)
def test_a_misspelt_variable_of_ours_is_an_error(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {name: "8000"})
    assert name in refused()
    assert said in refused()


def test_each_secret_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "DATABASE_URL": "postgresql://a:one@h/d",
        "DATABASE_DIRECT_URL": "postgresql://a:two@h/d",
        "BROKER_URL": "redis://:three@h",
        "WITHDRAWALS_SECRET_KEY": "four",
    }
    for name, secret in secrets.items():
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name).write_text(secret + "\n", encoding="utf-8")
    set_all(monkeypatch, {f"{name}_FILE": str(tmp_path / name) for name in secrets})
    found = settings()
    assert found.secret_key is not None
    read = (found.database_url, found.database_direct_url, found.broker_url, found.secret_key)
    assert [secret.get_secret_value() for secret in read] == list(secrets.values())


def test_a_file_that_holds_no_secret_is_named_and_never_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WITHDRAWALS_SECRET_KEY")
    file = tmp_path / "key"
    set_all(monkeypatch, {"WITHDRAWALS_SECRET_KEY_FILE": str(file)})
    assert f"WITHDRAWALS_SECRET_KEY_FILE: {file}: No such file" in refused()
    for content in (b"", b"\n \n", b"hunter2\nhunter3", b"hunter2\xff", b"hunter2\0", b"hunter2" * 10_000):
        file.write_bytes(content)
        assert f"{file}: is not a file with one secret" in refused()
        assert "hunter" not in refused()
    file.write_text("key", encoding="utf-8")
    monkeypatch.setenv("WITHDRAWALS_SECRET_KEY", "another")
    assert "WITHDRAWALS_SECRET_KEY is set as well" in refused()


def test_the_settings_of_a_proxy_are_checked(monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests) -> None:
    wrong = [
        ("WITHDRAWALS_TRUSTED_PROXIES", "*"),
        ("WITHDRAWALS_TRUSTED_PROXIES", "proxy.example"),
        ("WITHDRAWALS_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("WITHDRAWALS_PUBLIC_URL", "withdrawals.example"),
        ("WITHDRAWALS_PUBLIC_URL", "https://withdrawals.example/path"),
        ("WITHDRAWALS_PUBLIC_URL", "https://me:hunter2@withdrawals.example"),
        ("WITHDRAWALS_PUBLIC_URL", "https://withdrawals.example:port"),
        ("WITHDRAWALS_PUBLIC_URL", "https://withdrawals .example"),
        ("WITHDRAWALS_PUBLIC_URL", "https://"),
    ]
    for name, value in wrong:
        with subtests.test(name, value=value), monkeypatch.context() as patched:
            patched.setenv(name, value)
            settings.cache_clear()
            said = refused()
            assert name in said
            assert "hunter2" not in said


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://Withdrawals.Example/", "https://withdrawals.example"),
        ("https://withdrawals.example:443", "https://withdrawals.example"),
        ("http://withdrawals.example:443", "http://withdrawals.example:443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_public_address_is_kept_as_browsers_write_an_origin(given: str, origin: str) -> None:
    assert Settings(public_url=given).public_url == origin


def test_a_trusted_network_is_also_known_to_a_socket_that_takes_both_versions() -> None:
    found = Settings(trusted_proxies="10.0.0.7, 192.168.0.0/16, fd00::/8")
    assert found.proxies == [
        "10.0.0.7/32",
        "192.168.0.0/16",
        "fd00::/8",
        "::ffff:10.0.0.7/128",
        "::ffff:192.168.0.0/112",
    ]
    assert Settings().proxies == []
