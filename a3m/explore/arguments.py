"""Command lines of explain, compare and export: names, options, and settings in the grammar of the other verbs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from a3m.errors import SettingsError

SETTING = re.compile(r"[+~]{0,2}[A-Za-z_][\w.]*=")


@dataclass
class Arguments:
    """What was given: names in order, options by name, settings for a3m.config.load."""

    names: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)


def parse(verb: str, given: Sequence[str], names: Sequence[str], options: Sequence[str]) -> Arguments:
    """`names`: what the positional arguments are called, all needed. An option is given as --run ID, --run=ID or run=ID.

    Raises SettingsError saying what is missing or unknown.
    """
    found = Arguments()
    waiting = list(given)
    while waiting:
        token = waiting.pop(0)
        name, equals, value = token.partition("=")
        option = name.removeprefix("--")
        if option in options and (equals or token.startswith("--")):
            if not equals:
                if not waiting:
                    raise SettingsError(f"a3m {verb} {token}: a value is missing")
                value = waiting.pop(0)
            found.options[option] = value
        elif token.startswith("-"):
            known = ", ".join(f"--{one}" for one in options)
            raise SettingsError(f"a3m {verb} {token}: no such option; there are {known} (a3m {verb} --help)")
        elif SETTING.match(token) and not Path(token).exists():
            found.settings.append(token)
        else:
            found.names.append(token)
    if len(found.names) != len(names):
        raise SettingsError(
            f"a3m {verb}: expected {' '.join(names)}, got {' '.join(found.names) or 'nothing'} (a3m {verb} --help)"
        )
    return found
