"""Fields of a recipe: the default, the rule, the choices and the help text of each, stated once.

Validation (`check`) and the command line (`jvrc.cli.recipe_options`) are both derived from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import field, fields
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A condition on the value of one field."""

    holds: Callable[[Any], bool]
    text: str  # completes "NAME must be ..."


def at_least(low: float) -> Rule:
    """Return the rule that a number is at least `low`."""
    return Rule(lambda value: value >= low, f"at least {low}")


def between(low: float, high: float) -> Rule:
    """Return the rule that a number is in [low, high]."""
    return Rule(lambda value: low <= value <= high, f"in [{low}, {high}]")


def option(
    default: Any,
    help: str = "",
    *,
    rule: Rule | None = None,
    choices: Sequence[str] = (),
    flag: str = "",
) -> Any:
    """Return a dataclass field with all that is known of it.

    help: one line for the command line; "" for a field that the command line does not set.
    flag: the name on the command line, if it is not the field's.
    """
    if choices:
        rule = Rule(lambda value: value in choices, f"one of {', '.join(choices)}")
    known = {"help": help, "rule": rule, "choices": tuple(choices), "flag": flag}
    known["default"] = default
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=known)
    return field(default=default, metadata=known)


def other_default(kind: type, name: str, default: Any) -> Any:
    """Return the field `name` of the dataclass `kind` with another default, for a subclass."""
    known = kind.__dataclass_fields__[name].metadata | {"default": default}
    return field(default=default, metadata=known)


def check(record: Any) -> None:
    """Check the type and the rule of every field of a dataclass instance.

    Raises:
      ValueError: a field breaks its rule; the message gives field, rule and value.
    """
    for f in fields(record):
        value, rule = getattr(record, f.name), f.metadata["rule"]
        expected = _expected_type(value, f.metadata["default"])
        if expected:
            raise ValueError(f"{f.name} must be {expected}; got {value!r}")
        if rule and not rule.holds(value):
            raise ValueError(f"{f.name} must be {rule.text}; got {value!r}")


def _expected_type(value: Any, default: Any) -> str:
    """Return what a value should be, judged by its default; "" where it is that."""
    if isinstance(default, dict):
        fits = isinstance(value, dict) and all(
            type(k) is str and type(v) is int for k, v in value.items()
        )
        return "" if fits else "whole numbers by name"
    if isinstance(default, tuple):
        fits = isinstance(value, tuple) and all(type(v) in (int, float) for v in value)
        return "" if fits else "a list of numbers"
    if type(value) is type(default) or (type(default) is float and type(value) is int):
        return ""
    return type(default).__name__
