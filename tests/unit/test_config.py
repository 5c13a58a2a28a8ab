from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guard.config import is_loopback, load_settings
from guard.deliberation.deliberation import Finding
from guard.engine import read_card
from guard.errors import ConfigError
from guard.pipeline.enforcement import DEFAULT_ACTIONS, Action, Mode

ENGINE: dict[str, Any] = {"engine": {"upstream": "http://127.0.0.1:1"}}


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "guard.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_command_line_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source is overridden by the one before it, setting by setting.

    Field lesson 54: nobody knew which of two sources of the settings held.
    """
    path = _file(tmp_path, 'port = 1\nping_seconds = 2\n[engine]\nupstream = "http://f"\nmodel = "m"\n')
    monkeypatch.setenv("GUARD_PORT", "3")
    monkeypatch.setenv("GUARD_ENGINE__UPSTREAM", "http://e")

    settings = load_settings(path, port=4)

    assert (settings.port, settings.ping_seconds) == (4, 2)
    assert (settings.engine.upstream, settings.engine.model) == ("http://e", "m")


def test_all_bad_values_are_told_at_once(tmp_path: Path) -> None:
    """Unknown names and unusable values of a file are all in the error."""
    path = _file(tmp_path, 'port = 99999\nprot = 1\n[engine]\nkind = "llamafile"\nupstreem = "x"\n')

    with pytest.raises(ConfigError) as error:
        load_settings(path)

    assert all(name in str(error.value) for name in ("port", "prot", "engine.kind", "engine.upstreem"))


@pytest.mark.parametrize(
    "name",
    [
        "GUARD_ENFORCMENT__MODE",
        "GUARD_ENFORCEMENT_MODE",
        "GUARD_ENFORCEMENT__MOD",
        "GUARD_MODE",
        "guard_mode",
        "GUARD_PORT__NUMBER",
        "GUARD_AUDIT_DATABASE",
        "GUARD_DATABASE_URL",
    ],
)
def test_a_misspelt_variable_stops_the_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that begins with GUARD_ and is no setting is named, beside everything else that is wrong."""
    monkeypatch.setenv(name, "enforce")

    with pytest.raises(ConfigError) as error:
        load_settings(**ENGINE, drain_seconds=-1)

    told = name.replace("GUARD_ENFORCEMENT__MOD", "enforcement.mod")
    assert f"{told}: no such setting" in str(error.value)
    assert "drain_seconds" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUARD_CONFIG", "guard.toml"),
        ("GUARD_DATABASE", "guard.db"),
        ("GUARD_RUNS", "runs"),
        ("GUARD_STUDENT_1_5B", "model"),
        ("GUARD_JUDGE_URL", "http://judge"),
        ("GUARD_API_KEY", "key"),
        ("GUARD_TEST_MODEL", "model"),
        ("GUARD_ENGINE_SECRET", "key"),
        ("GUARD_PORT", "tcp://10.96.0.7:8080"),
        ("GUARD_SERVICE_HOST", "10.96.0.7"),
        ("GUARD_SERVICE_PORT_HTTP", "8080"),
        ("GUARD_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
        ("GUARD_PORT_8080_TCP_ADDR", "10.96.0.7"),
        ("GUARD_CANARY_SERVICE_HOST", "10.96.0.8"),
        ("GUARD_CANARY_PORT", "tcp://10.96.0.8:8080"),
    ],
)
def test_variables_that_others_use_may_stand_beside(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of commands and training, the engine's key and Kubernetes' service links stop no start."""
    path = _file(
        tmp_path, 'port = 1\n[engine]\nupstream = "http://e"\nupstream_key_env = "GUARD_ENGINE_SECRET"\n'
    )
    monkeypatch.setenv(name, value)

    assert load_settings(path).port == 1


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({}, "set either upstream"),
        ({"engine": {"upstream": "http://x", "kind": "vllm", "model": "m"}}, "set either upstream"),
        ({"engine": {"kind": "vllm"}}, "engine.model"),
        ({**ENGINE, "host": "0.0.0.0"}, "keys are needed"),
        ({**ENGINE, "retrieval": {"spec": "drift"}}, "engine.card"),
        ({**ENGINE, "keys": ({"name": "a", "hash": "plain-key"},)}, "keys.0.hash"),
    ],
)
def test_what_does_not_fit_together_is_refused(overrides: dict[str, Any], told: str) -> None:
    """Contradictions between settings stop the start with what to do."""
    with pytest.raises(ConfigError, match=told):
        load_settings(**overrides)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A configuration file that is not there is an error, not an empty one."""
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_settings(tmp_path / "absent.toml", **ENGINE)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    """A syntax error in the file says which file."""
    with pytest.raises(ConfigError, match=r"guard\.toml: is not TOML"):
        load_settings(_file(tmp_path, "port = = 1"), **ENGINE)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """A file that is not UTF-8 says which file."""
    path = tmp_path / "guard.toml"
    path.write_bytes('host = "Zürich"'.encode("latin-1"))

    with pytest.raises(ConfigError, match=r"guard\.toml: is not TOML"):
        load_settings(path, **ENGINE)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GUARD_POLICIES", "specs/default"),
        ("GUARD_ENGINE__ARGS", "a"),
        ("GUARD_KEYS", "abc"),
        ("GUARD_ENGINE", "foo"),
    ],
)
def test_a_list_that_is_not_json_says_how(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list or table in the environment that is no JSON is named, with an example of what is."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=r"(policies|engine|keys).*: lists and tables .* are JSON, such as"):
        load_settings(**ENGINE)


def test_an_answer_has_room_for_a_token() -> None:
    """Fewer answer tokens than one are no limit but a mistake."""
    with pytest.raises(ConfigError, match=r"limits\.answer_tokens"):
        load_settings(**ENGINE, limits={"answer_tokens": 0})


@pytest.mark.parametrize(("timeout", "days"), [(900.0, 70 / 1440), (float("inf"), 30 + 10 / 1440)])
def test_a_choice_ends(timeout: float, days: float) -> None:
    """A choice takes two engine calls for each try at most, and ten minutes; never over a month."""
    settings = load_settings(engine={"upstream": "http://e", "total_timeout": timeout})

    assert settings.longest_choice() == timedelta(days=days)


def test_actions_override_the_defaults_one_by_one() -> None:
    """A configured action replaces its default; the others stay."""
    settings = load_settings(
        **ENGINE, enforcement={"mode": "enforce", "actions": {"stale_citation": "refuse"}}
    )

    enforcement = settings.enforcement.build()
    assert enforcement.mode is Mode.ENFORCE
    assert enforcement.actions == {**DEFAULT_ACTIONS, Finding.STALE_CITATION: Action.REFUSE}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("guard.example", False)],
)
def test_loopback_is_told_from_the_rest(host: str, loopback: bool) -> None:
    """Only addresses that other machines cannot reach may go without keys."""
    assert is_loopback(host) is loopback


def test_a_model_card_gives_the_digests_learnt(tmp_path: Path) -> None:
    """The digests of the card's sections are what the model was trained on."""
    card = tmp_path / "model-card.json"
    card.write_text('{"sections": {"self-harm": "abc", "violence": "def"}}', encoding="utf-8")

    assert read_card(card) == {"abc", "def"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sections": []}'])
def test_a_card_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is no model card stops the start."""
    card = tmp_path / "model-card.json"
    card.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match="is no model card"):
        read_card(card)
