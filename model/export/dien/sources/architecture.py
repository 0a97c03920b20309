"""Checks an architecture file as FORMAT.md's config is checked: types, ranges, unknown keys, and all mistakes at once.

Each source has a table of rules, one for each key that it reads. A rule is a function from a value to the words of what it
must be, or None if it is that.
"""
from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Optional

from dien.sources.source import REMARKS, SIZES, ConversionError, Source

Rule = Callable[[Any], Optional[str]]
LENGTH_MAX = 65536  # FORMAT.md: max_length
UNITS_MAX = 65536
GROUPS = ("user", "context", "behaviour", "behavior", "history", "candidate", "target")


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def anything(value: Any) -> Optional[str]:
    """A value that the converter checks itself."""
    return None


def flag(value: Any) -> Optional[str]:
    """A boolean: the text "false" would count as true."""
    return None if isinstance(value, bool) else "true or false"


def text(value: Any) -> Optional[str]:
    """A string."""
    return None if isinstance(value, str) else "a string"


def number(value: Any) -> Optional[str]:
    """A finite number."""
    return None if isinstance(value, (int, float)) and not isinstance(value, bool) else "a number"


def positive(value: Any) -> Optional[str]:
    """A number greater than 0."""
    return None if number(value) is None and value > 0 else "a number greater than 0"


def length(value: Any) -> Optional[str]:
    """The longest history."""
    return None if _whole(value, 1, LENGTH_MAX) else f"an integer from 1 to {LENGTH_MAX}"


def count(value: Any) -> Optional[str]:
    """A size."""
    return None if _whole(value, 1, 2 ** 31 - 1) else "an integer from 1 to 2147483647"


def each(rule: Rule, what: str) -> Rule:
    """A list whose items keep a rule."""
    return lambda value: None if isinstance(value, list) and all(rule(item) is None for item in value) else f"a list of {what}"


def named(rule: Rule, what: str) -> Rule:
    """An object whose values keep a rule."""
    return lambda value: None if isinstance(value, Mapping) and all(rule(item) is None for item in value.values()) \
        else f"an object of {what}"


def either(*rules: Rule) -> Rule:
    """A value that keeps one of the rules."""
    return lambda value: None if any(rule(value) is None for rule in rules) else \
        " or ".join(str(rule(value)) for rule in rules)


def optional(rule: Rule) -> Rule:
    """A value that keeps a rule, or null."""
    return lambda value: None if value is None else rule(value)


def mapping(value: Any) -> Optional[str]:
    """An object that the converter reads itself."""
    return None if isinstance(value, Mapping) else "an object"


def listed(value: Any) -> Optional[str]:
    """A list that the converter reads itself."""
    return None if isinstance(value, list) else "a list"


def _unit_count(value: Any) -> Optional[str]:
    return None if _whole(value, 1, UNITS_MAX) else "an integer"


def _object(value: Any) -> Optional[str]:
    return None if isinstance(value, Mapping) and isinstance(value.get("name"), str) else "an object"


names = each(text, "names")
units = each(_unit_count, f"integers from 1 to {UNITS_MAX}")
activations = either(text, each(optional(text), "names"))
features = each(_object, "objects with a name")
field_pairs = either(text, each(either(text, names), "names or lists of names"))
lengths = either(length, named(length, f"integers from 1 to {LENGTH_MAX}"))


def groups(value: Any) -> Optional[str]:
    if not isinstance(value, Mapping):
        return "an object of lists of features"
    wrong = [key for key, members in value.items() if key in GROUPS and names(members) is not None]
    return f"an object of lists of features, which {wrong[0]} is not" if wrong else None


COMMON: dict[str, Rule] = {"name": text, "version": either(text, number)}


def check(architecture: Mapping[str, Any], rules: Mapping[str, Rule], source: Source) -> None:
    """Refuse values that are none, and keys that nobody reads, because they could change the score.

    If the framework's own scores are there to prove the conversion, a key that nobody reads is only noted.
    """
    wrong, unknown = [], []
    for key, value in architecture.items():
        rule = rules.get(key, COMMON.get(key))
        if rule is not None:
            expected = rule(value)
            if expected is not None:
                wrong.append(f"architecture key {key} must be {expected}, not {_shown(value)}")
        elif not re.fullmatch(f"{REMARKS}|{SIZES}", key):
            unknown.append(key)
    if unknown and not source.proven:
        are = "is" if len(unknown) == 1 else "are"
        wrong.append(f"architecture key {', '.join(unknown)} {are} not understood: a convention that is skipped is a score that "
                     "is wrong. Remove it if it says nothing about the network, or bring the framework's own scores with "
                     "--samples")
    if wrong:
        raise ConversionError("; ".join(wrong))
    for key in unknown:
        source.note(f"architecture key {key} is not understood; the samples' scores tell whether it matters")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
