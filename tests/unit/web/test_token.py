"""The API's token: where it comes from, and who may read it."""

import pytest

from bridge.errors import ConfigError
from bridge.web.token import VARIABLE, read_token


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_one_is_made_once_for_us_alone(tmp_path):
    runtime = tmp_path / "runtime"
    token = read_token("", str(runtime), make=True)
    assert len(token) >= 32
    assert read_token("", str(runtime), make=True) == token == read_token("", str(runtime))
    (file,) = runtime.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_who_only_asks_makes_none(tmp_path):
    with pytest.raises(ConfigError, match="start 'ari-bridge web' first"):
        read_token("", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_operators(tmp_path):
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="token_file"):
        read_token(str(file), str(tmp_path), make=True)
    file.write_text("0123456789abcdef\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(str(file), str(tmp_path))
    file.chmod(0o600)
    assert read_token(str(file), str(tmp_path)) == "0123456789abcdef"


def test_the_environment_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    assert read_token("", str(tmp_path), make=True) == "from-the-environment"
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(ConfigError, match="16 or more"):
        read_token("", str(tmp_path))
