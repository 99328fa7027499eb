"""One setting: everything that is known about it, said once, from which parsing, .env.example and the manual follow."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from config.kinds import Kind
from config.secret import Secret

_KEY = "setting"
# From the environment and the values of the settings declared before it, by setting name.
Derive = Callable[[Mapping[str, str], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Setting:
    """`default` is a value, or None for unset; where `derive` is given it makes the default and `default_text` describes it.

    `aliases` are other names that are read too; `url` is the setting whose URL holds this one as a part.
    """

    name: str
    section: str
    kind: Kind
    default: Any
    about: str
    unit: str = ""
    aliases: tuple[str, ...] = ()
    url: str = ""
    derive: Derive | None = None
    default_text: str = ""

    @property
    def shown_default(self) -> str:
        """The default as a person would write it; "" where there is none."""
        if self.default_text:
            return self.default_text
        if self.default is None or isinstance(self.default, Secret):
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def default_value(self, environ: Mapping[str, str], values: Mapping[str, Any]) -> Any:
        """The value where nothing is set."""
        return self.derive(environ, values) if self.derive else self.default


def setting(section: str, kind: Kind, default: Any, about: str, **more: Any) -> Any:
    """Declare a setting as a dataclass field: its name follows from the field's (`esp_timeout_s` is ESP_TIMEOUT_SECONDS)."""
    return dataclasses.field(metadata={_KEY: Setting("", section, kind, default, about, **more)})


def settings_of(owner: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by field name, in order."""
    declared = {field.name: field.metadata[_KEY] for field in dataclasses.fields(owner) if _KEY in field.metadata}
    return {field: dataclasses.replace(known, name=name_of(field)) for field, known in declared.items()}


def name_of(field: str) -> str:
    """A setting's name in the environment: units are spelled out there."""
    return f"{field.removesuffix('_s')}_seconds".upper() if field.endswith("_s") else field.upper()
