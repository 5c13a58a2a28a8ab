"""Every setting, typed and read once: command line over environment over file over default.

Environment: ``GUARD_PORT=8081``, nested with two underscores (``GUARD_RETRIEVAL__MAX_SECTIONS=2``). File:
TOML, named by ``guard serve --config`` or ``GUARD_CONFIG``. Secrets are never settings: a setting holds
the *name* of the environment variable that holds the secret, or a hash.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from guard.deliberation.deliberation import Finding
from guard.environment import NESTED, PREFIX, EnvironmentSource, UnknownVariables
from guard.errors import ConfigError
from guard.keys import Caller, Scope
from guard.pipeline.enforcement import DEFAULT_ACTIONS, Action, Enforcement, Mode
from guard.pipeline.exchange import Constrained, RetrievalLimits
from guard.rollout.snapshot import SpecInContext

DEFAULT_DATABASE = "var/guard.db"
"""Also where ``guard log`` looks."""
_MONTH = 30 * 86_400.0
"""Seconds; a timeout that is longer, or infinite, counts as a month."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KeySettings(_Section):
    """One API key; ``guard key new`` prints a fresh one with its hash."""

    name: Annotated[str, Field(min_length=1)]
    """Shown in records as the tenant."""
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    """``sha256:`` and the hex hash of the key."""
    scopes: frozenset[Scope] = frozenset({Scope.CHAT})
    """What the key may do: chat, reasoning, audit, admin."""
    policy: str | None = None
    """Bind the key to one of the served policies."""


class EngineSettings(_Section):
    """The engine that answers: someone else's server, or a child process of the guard."""

    upstream: str | None = None
    """Base URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1."""
    upstream_key_env: str | None = None
    """Name of the environment variable that holds the engine's API key."""
    kind: Literal["transformers", "vllm"] | None = None
    """Start this engine as a child process."""
    model: str | None = None
    """With ``kind``: the checkpoint folder. With ``upstream``: what the engine calls its model; left
    out, the first model it lists."""
    python: Path | None = None
    """Interpreter that has the engine installed; left out, the guard's own."""
    args: tuple[str, ...] = ()
    """Further command-line arguments of the engine."""
    log: Path = Path("var/engine.log")
    """Where a child engine's output goes."""
    thinking_opened: bool = False
    """The model's chat template opens the thinking, so that completions begin inside it."""
    constrained: Constrained | None = None
    """How grammars and thinking go together; left out, what suits the engine."""
    extra_fields: frozenset[
        Literal["top_k", "min_p", "repetition_penalty", "cache_salt", "priority", "chat_template_kwargs"]
    ] = frozenset()
    """Request fields beyond OpenAI's that the engine takes; of vLLM the guard knows it by itself."""
    card: Path | None = None
    """``model-card.json`` of a model trained on the policy: the digests of the sections it learnt."""
    connect_timeout: Annotated[float, Field(gt=0)] = 5.0
    """Seconds to connect to the engine."""
    first_byte_timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until the engine begins to answer."""
    idle_timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two chunks of the engine's answer."""
    total_timeout: Annotated[float, Field(gt=0)] = 900.0
    """Seconds for one engine call."""
    start_timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds until a child engine must be ready."""


class RetrievalSettings(_Section):
    """What retrieval may add to a prompt."""

    max_sections: Annotated[int, Field(ge=0, le=50)] = 3
    """Sections given in full at most."""
    budget_tokens: Annotated[int, Field(ge=0)] = 1500
    """Tokens they may take together."""
    spec: SpecInContext = SpecInContext.RETRIEVED
    """``retrieved``: always give the policy; ``drift``: only what a trained model did not learn."""
    show_decoded: bool = True
    """Say after an encoded text that matched a section what it reads, for engines that cannot decode it."""


class EnforcementSettings(_Section):
    """What is done about findings."""

    mode: Mode = Mode.OBSERVE
    """``observe`` records findings, ``enforce`` acts on them."""
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    """Further engine calls per choice when a finding asks for one."""
    actions: dict[Finding, Action] = Field(default_factory=dict)
    """Per finding: pass, retry, retry_then_refuse or refuse; the others keep their defaults."""

    def build(self) -> Enforcement:
        """The pipeline's form."""
        return Enforcement(self.mode, {**DEFAULT_ACTIONS, **self.actions}, self.retries)


class LimitSettings(_Section):
    """What one request may ask for."""

    body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """Largest request body."""
    body_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which a request body must arrive."""
    choices: Annotated[int, Field(ge=1, le=128)] = 8
    """Largest ``n``."""
    messages: Annotated[int, Field(ge=1)] = 2000
    """Most messages in one request."""
    thinking_tokens: Annotated[int, Field(ge=16)] = 1024
    """Tokens for the thinking, on top of the client's limit for the answer."""
    answer_tokens: Annotated[int, Field(ge=1)] | None = None
    """Answer tokens where the client sets no limit; left out, the engine decides."""
    max_answer_tokens: Annotated[int, Field(ge=1)] = 131_072
    """Largest ``max_tokens``."""
    response_days: Annotated[int, Field(ge=1)] = 30
    """Days for which a response can be retrieved by its id and gone on with (``/v1/responses``)."""


class AuditSettings(_Section):
    """The record of every choice."""

    database: str = DEFAULT_DATABASE
    """A path for SQLite, or postgresql://user@host/name; a password comes from PGPASSWORD."""
    mode: Literal["durable", "background"] = "durable"
    """``durable``: no answer is complete before its record; ``background``: never wait."""
    max_pending: Annotated[int, Field(ge=1)] = 10_000
    """Records in memory at most."""
    spill: Path = Path("var/audit-spill.jsonl")
    """Where records go while the database does not take them."""


class Settings(BaseSettings):
    """All settings of one guard."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs keys."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on."""
    policies: tuple[Path, ...] = ()
    """Policy folders, the first is the default; left out, the policy that comes with the guard."""
    reasoning_output: Literal["reasoning", "reasoning_content", "both", "none"] = "both"
    """Field in which the thinking is shown to keys that may see it."""
    ping_seconds: Annotated[float, Field(gt=0)] = 15.0
    """Seconds of silence after which a stream gets a keep-alive comment."""
    drain_seconds: Annotated[int, Field(ge=0)] = 60
    """Seconds that open requests get to finish after SIGTERM."""
    log_format: Literal["console", "json"] = "console"
    """How log lines look."""
    keys: tuple[KeySettings, ...] = ()
    """API keys; none switches them off, which only loopback allows."""
    engine: EngineSettings = EngineSettings()
    """The engine that answers."""
    retrieval: RetrievalSettings = RetrievalSettings()
    """What retrieval may add to a prompt."""
    enforcement: EnforcementSettings = EnforcementSettings()
    """What is done about findings."""
    limits: LimitSettings = LimitSettings()
    """What one request may ask for."""
    audit: AuditSettings = AuditSettings()
    """The record of every choice."""

    @field_validator("keys")
    @classmethod
    def _distinct(cls, keys: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        if len({key.hash for key in keys}) < len(keys) or len({key.name for key in keys}) < len(keys):
            raise ValueError("two keys share a name or a hash")
        return keys

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        problems = []
        if not self.keys and not is_loopback(self.host):
            problems.append(
                f"host {self.host!r} is reachable from other machines, so keys are needed: "
                "run 'guard key new' and put what it prints under keys"
            )
        problems += self._engine_problems()
        if self.engine.kind and not self.engine.model:
            problems.append("engine.model: name the checkpoint folder of the engine to start")
        if self.retrieval.spec is SpecInContext.DRIFT and not self.engine.card:
            problems.append("retrieval.spec = 'drift' needs engine.card, which says what the model learnt")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _engine_problems(self) -> list[str]:
        if bool(self.engine.upstream) == bool(self.engine.kind):
            return ["engine: set either upstream (a running server) or kind (one to start)"]
        return []

    def callers(self) -> dict[str, Caller]:
        """The key ring's content."""
        return {key.hash: Caller(key.name, key.scopes, key.policy) for key in self.keys}

    def retrieval_limits(self) -> RetrievalLimits:
        """The pipeline's form."""
        retrieval = self.retrieval
        return RetrievalLimits(retrieval.max_sections, retrieval.budget_tokens, retrieval.show_decoded)

    def longest_choice(self) -> timedelta:
        """No choice takes longer: every try makes two engine calls at most; ten minutes are for the rest."""
        seconds = 2 * self.engine.total_timeout * (1 + self.enforcement.retries)
        return timedelta(seconds=min(seconds, _MONTH)) + timedelta(minutes=10)


class MiddlewareSettings(Settings):
    """All settings of a guard that wraps an app: that app is its engine, the server's address its own."""

    passed: tuple[Annotated[str, Field(pattern=r"^(/[\w.-]+)+$")], ...] = (
        "/health",
        "/ping",
        "/version",
        "/metrics",
    )
    """Paths of the wrapped app that are let through, for GET and HEAD; under ``/engine`` where the guard
    itself has that path."""

    def _engine_problems(self) -> list[str]:
        if self.engine.upstream or self.engine.kind:
            return ["engine: the middleware's engine is the app that it wraps; leave upstream and kind out"]
        return []


AnySettings = TypeVar("AnySettings", bound=Settings)
_JSON = """lists and tables in the environment are JSON, such as GUARD_POLICIES='["specs/default"]'"""


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings of a service of its own.

    Args:
        file: TOML file; the settings in it come last, before the defaults.
        overrides: From the command line; they come first.

    Raises:
        ConfigError: Names every setting that cannot be used.
    """
    return read_settings(Settings, file, **overrides)


def read_settings(kind: type[AnySettings], file: Path | None = None, **overrides: Any) -> AnySettings:
    """Read settings of a kind.

    Args:
        kind: Which ones there are.
        file: TOML file; the settings in it come last, before the defaults.
        overrides: Given in code or on the command line; they come first.

    Raises:
        ConfigError: Names every setting that cannot be used.
    """
    try:
        if file is not None and not file.is_file():
            raise ConfigError(f"{file}: no such configuration file")
        return _with_file(kind, file)(**overrides)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not TOML: {error}") from error
    except SettingsError as error:
        raise ConfigError(f"{error}: {_JSON}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(map(_told, error.errors()))) from error


def _told(item: ErrorDetails) -> str:
    """One thing that is wrong, in a line."""
    name = ".".join(map(str, item["loc"])) or "settings"
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg'].removeprefix('Value error, ')}"
    if name.upper().startswith(PREFIX):
        return f"{name}: no such setting; in the environment two underscores stand for the dot"
    return f"{name}: no such setting"


def _with_file(kind: type[AnySettings], file: Path | None) -> type[AnySettings]:
    """Settings whose last source is this file."""

    class FileSettings(kind):  # type: ignore[valid-type, misc]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Command line, then environment, then the file; what is left of the environment is refused."""
            return (
                init_settings,
                EnvironmentSource(settings_cls),
                TomlConfigSettingsSource(settings_cls, file),
                UnknownVariables(settings_cls, os.environ),
            )

    return FileSettings


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
