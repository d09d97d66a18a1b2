import pytest
from headrace_runtime.errors import SettingsInvalid
from headrace_runtime.settings import ServiceSettings, load_settings, settings_table


def test_every_bad_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_METRICS_ADDRESS", "nowhere")
    monkeypatch.setenv("HEADRACE_KAFKA_SESSION_TIMEOUT_MS", "soon")
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", "LOUD")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(ServiceSettings)
    text = str(caught.value)
    wanted = "HEADRACE_METRICS_ADDRESS: expected host:port with a port from 0 to 65535, got 'nowhere'"
    assert wanted in caught.value.problems
    assert "HEADRACE_KAFKA_SESSION_TIMEOUT_MS" in text
    assert "HEADRACE_LOG_LEVEL" in text
    assert len(caught.value.problems) == 3


def test_tls_and_sasl_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("HEADRACE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("HEADRACE_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("HEADRACE_KAFKA_SASL_USERNAME", "user")
    monkeypatch.setenv("HEADRACE_KAFKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("HEADRACE_KAFKA_SSL_CAFILE", "/etc/ca.pem")
    settings = load_settings(ServiceSettings)
    client = settings.kafka_client()
    assert client["bootstrap_servers"] == ["a:1", "b:2"]
    assert client["security_protocol"] == "SASL_SSL"
    assert client["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (client["sasl_plain_username"], client["sasl_plain_password"]) == ("user", "secret")
    assert client["ssl_cafile"] == "/etc/ca.pem"
    assert "ssl_keyfile" not in client
    assert "secret" not in repr(settings)


def test_the_table_documents_every_field() -> None:
    table = settings_table(ServiceSettings)
    for name, field in ServiceSettings.model_fields.items():
        assert f"`HEADRACE_{name.upper()}`" in table
        assert field.description
        assert field.description in table
