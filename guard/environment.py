"""The environment as a source of settings: which variables are read, and which are refused.

Whatever begins with ``GUARD_`` is a setting, one of the few other names that this project uses, or a
mistake. A mistake stops the start: with a misspelt ``GUARD_ENFORCEMENT__MODE`` nothing would be enforced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

PREFIX = "GUARD_"
NESTED = "__"
"""Stands for the dot in a setting's name."""
_BESIDE = re.compile(
    "GUARD_(CONFIG|DATABASE"  # options of the commands
    r"|RUNS|STUDENT\w*|(TEACHER|WRITER|JUDGE|GRADER|ROLLOUT)_(URL|MODEL)"  # the training recipes
    "|API_KEY|BASE_URL|KEY|TEST_MODEL)"  # clients of a guard, and tests
)
"""Names that are no settings and may stand beside them."""
_LINK = re.compile(r"GUARD_(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP))(_\w+)?")
_PORT_LINK = re.compile(r"GUARD_(\w+_)?PORT=(tcp|udp|sctp)://.*")
"""What Kubernetes gives every pod beside a Service whose name begins with ``guard``."""


class EnvironmentSource(EnvSettingsSource):
    """The variables that are settings, without what Kubernetes says of a Service of the same name."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        """Read them."""
        super().__init__(settings_cls)
        self.env_vars = {name: value for name, value in self.env_vars.items() if not _is_link(name, value)}


class UnknownVariables(PydanticBaseSettingsSource):
    """The variables that mean nothing, as settings which do not exist; must be the last source."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        """Keep where to look."""
        super().__init__(settings_cls)
        self._environment = environment

    def __call__(self) -> dict[str, Any]:
        """Each by its name; the variable that holds the engine's key, wherever it is named, is known."""
        engine = self.current_state.get("engine")
        beside = engine.get("upstream_key_env") if isinstance(engine, Mapping) else None
        return {
            name: value
            for name, value in self._environment.items()
            if name.upper().startswith(PREFIX) and name != beside and not self._is_known(name.upper(), value)
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """No setting has a value here."""
        return None, field_name, False

    def _is_known(self, name: str, value: str) -> bool:
        setting, nested, _ = name.removeprefix(PREFIX).lower().partition(NESTED)
        field = self.settings_cls.model_fields.get(setting)
        if field is not None and (not nested or _has_own(field)):
            return True
        return bool(_BESIDE.fullmatch(name)) or _is_link(name, value)


def _has_own(field: FieldInfo) -> bool:
    """Whether a setting is a group of settings, which complains of unknown ones itself."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _is_link(name: str, value: str | None) -> bool:
    name = name.upper()
    return bool(_LINK.fullmatch(name) or _PORT_LINK.fullmatch(f"{name}={value}"))
