"""Readers of the environment that fail loudly: the variable's name, its value and the cure."""
from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from urllib.parse import urlsplit

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


class SettingError(ValueError):
    """A setting in the environment is wrong."""


def wrong(name: str, value: str, cure: str) -> SettingError:
    return SettingError(f"{name}={value!r}: {cure}")


def load_dotenv(path: pathlib.Path) -> None:
    """Take `NAME=value` lines of a `.env` file into the environment; what is already set there wins.

    A test run sets OPSPAWN_DOTENV=off, for itself and the processes it starts, and is the same for everybody.
    """
    if os.environ.get("OPSPAWN_DOTENV") == "off" or not path.is_file():
        return
    from dotenv import dotenv_values

    for name, value in dotenv_values(path).items():
        if value is not None:
            os.environ.setdefault(name, value)


class Environment:
    """Typed reads of one environment mapping, each naming the variable when the value is wrong."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, "").strip() or default

    def secret(self, name: str) -> str:
        """The value of NAME, else the stripped content of the file that NAME_FILE names, else ''."""
        value = self.text(name)
        path = self.text(f"{name}_FILE")
        if value or not path:
            return value
        try:
            return pathlib.Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            cure = f"cannot read that file ({type(error).__name__}); name a readable text file or unset it"
            raise wrong(f"{name}_FILE", path, cure) from None

    def flag(self, name: str, default: bool = False) -> bool:
        raw = self._values.get(name)
        if raw is None:
            return default
        if raw.strip().lower() in TRUE:
            return True
        if raw.strip().lower() in FALSE:
            return False
        raise wrong(name, raw, "use true or false")

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        raw = self.text(name, str(default))
        try:
            value = int(raw)
        except ValueError:
            raise wrong(name, raw, f"use a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise wrong(name, raw, f"use a whole number from {low} to {high}")
        return value

    def seconds(self, name: str, default: float, low: float, high: float) -> float:
        raw = self.text(name, str(default))
        try:
            value = float(raw)
        except ValueError:
            raise wrong(name, raw, f"use seconds from {low:g} to {high:g}") from None
        if not low <= value <= high:  # also refuses nan
            raise wrong(name, raw, f"use seconds from {low:g} to {high:g}")
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        raw = self.text(name, default)
        for choice in choices:
            if raw.lower() == choice.lower():
                return choice
        raise wrong(name, raw, "use one of " + ", ".join(choices))

    def words(self, name: str, default: str = "") -> list[str]:
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]

    def limits(self, name: str, kinds: tuple[str, ...]) -> dict[str, dict[str, int]]:
        """A JSON object of names, each an object with some of these kinds as whole numbers from 1 on."""
        raw = self.text(name)
        cure = f'use JSON like {{"openai": {{"{kinds[0]}": 20}}}} with {", ".join(kinds)} as whole numbers from 1'
        try:
            table = json.loads(raw or "{}")
            right = all(_are_limits(limits, kinds) for limits in table.values())
        except (ValueError, AttributeError, RecursionError):
            raise wrong(name, raw[:200], cure) from None
        if not right:
            raise wrong(name, raw[:200], cure)
        read: dict[str, dict[str, int]] = table
        return read

    def url(self, name: str, schemes: tuple[str, ...], default: str = "") -> str:
        """The URL, checked for scheme and host. The message never shows it whole: it may hold a password."""
        raw = self.text(name, default)
        if not raw:
            return ""
        try:
            parts = urlsplit(raw)
            valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            valid = False
        if not valid:
            shown = raw.split("@")[-1] if "@" in raw else raw
            raise wrong(name, shown, "use a URL like " + schemes[0] + "://user:password@host:port/name")
        return raw


def _are_limits(limits: dict[str, int], kinds: tuple[str, ...]) -> bool:
    """Raises AttributeError for what is no object."""
    numbers = all(type(value) is int and 1 <= value <= 10**9 for value in limits.values())
    return bool(limits) and set(limits) <= set(kinds) and numbers
