# Copyright 2026 composer_dataagent authors
# SPDX-License-Identifier: Apache-2.0
"""From a name in a recipe to an object: only registered names, only arguments that exist."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

import pydantic

from composer_dataagent.recipes.errors import RecipeError, unknown

Factory = Callable[..., Any]


class Registry:
    """Factories by name. A recipe can name nothing else, so it cannot run code of its own.

    Upper case and underscores do not matter: ``blurpool``, ``blur_pool`` and ``BlurPool`` are one.

    Args:
        kind (str): What is registered, for messages.
        factories (Mapping[str, Factory]): Name to class or function.
        implied (Iterable[str]): Names of arguments that the caller of :meth:`build` gives and a
            recipe must not. Default: none.
    """

    def __init__(
        self, kind: str, factories: Mapping[str, Factory], implied: Iterable[str] = ()
    ) -> None:
        self.kind = kind
        self.factories = dict(factories)
        self._implied = frozenset(implied)
        self._plain = {squeezed(name): name for name in self.factories}

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self.factories)

    def canonical(self, key: str, name: object) -> str:
        """The registered spelling of a name.

        Args:
            key (str): Dotted key of the recipe where the name stands, for messages.
            name (object): Any spelling.

        Raises:
            RecipeError: It is not registered; the message lists all names.
        """
        found = self._plain.get(squeezed(name)) if isinstance(name, str) else None
        if found is None:
            raise unknown(f"{key}: {self.kind}", name, self.names())
        return found

    def build(
        self, key: str, name: object, arguments: Mapping[str, Any] | None, *given: Any, **more: Any
    ) -> Any:
        """Make the object that a recipe names.

        Args:
            key (str): Dotted key of the recipe, for messages.
            name (object): A registered name.
            arguments (Mapping[str, Any] | None): What the recipe says; checked.
            *given (Any): Positional arguments from the caller, not from the recipe.
            **more (Any): Defaults for arguments that the recipe does not give.

        Returns:
            Any: What the factory makes.

        Raises:
            RecipeError: Unknown name or argument, a value of the wrong type, a missing argument,
                or the factory refuses a value.
        """
        factory = self.factories[self.canonical(key, name)]
        checked = check_arguments(key, factory, arguments or {}, self._implied, {*more})
        try:
            return factory(*given, **{**more, **checked})
        except Exception as error:
            raise RecipeError(f"{key}: {error}") from error


def split_name(key: str, component: object) -> tuple[object, dict[str, Any]]:
    """Take ``{name: ..., **arguments}`` apart; a bare name is fine.

    Raises:
        RecipeError: It is neither.
    """
    if isinstance(component, str):
        return component, {}
    if isinstance(component, Mapping) and "name" in component:
        arguments = {str(k): v for k, v in component.items() if k != "name"}
        return component["name"], arguments
    raise RecipeError(f"{key}={component!r} is not accepted: give a name, or a mapping with one")


def check_arguments(
    key: str,
    factory: Factory,
    arguments: Mapping[str, Any],
    implied: Iterable[str] = (),
    defaulted: Iterable[str] = (),
) -> dict[str, Any]:
    """Check a recipe's arguments against a factory's signature and type hints.

    Args:
        key (str): Dotted key of the recipe, for messages.
        factory (Factory): Class or function. Where a class passes ``**kwargs`` on, the arguments of
            its base class count as accepted too.
        arguments (Mapping[str, Any]): Plain YAML values.
        implied (Iterable[str]): Arguments that a recipe must not give.
        defaulted (Iterable[str]): Arguments that a recipe may leave out although the factory
            requires them.

    Returns:
        dict[str, Any]: The arguments, text converted where a number is wanted.

    Raises:
        RecipeError: An argument is unknown, missing, or of another type.
    """
    accepted, anything = _parameters(factory)
    implied = set(implied)
    accepted = {name: found for name, found in accepted.items() if name not in implied}
    for name in arguments:
        if name in implied or (name not in accepted and not anything):
            raise unknown(f"{key}: argument", name, sorted(accepted))
    checked = {
        name: _check_type(f"{key}.{name}", value, accepted[name][1]) if name in accepted else value
        for name, value in arguments.items()
    }
    missing = [
        name
        for name, (parameter, _) in accepted.items()
        if parameter.default is parameter.empty and name not in {*arguments, *defaulted}
    ]
    if missing:
        raise RecipeError(f"{key} lacks {', '.join(missing)}. Accepted: {sorted(accepted)}")
    return checked


def classes_of(
    module: ModuleType, base: type, name: Callable[[type], str], without: Iterable[str] = ()
) -> dict[str, Factory]:
    """The public subclasses of ``base`` that a module exports, by the name that ``name`` gives."""
    return {
        name(cls): cls
        for exported, cls in vars(module).items()
        if inspect.isclass(cls) and issubclass(cls, base) and cls is not base
        if not exported.startswith("_") and exported not in without
    }


def snake_case(cls: type, without: str = "") -> str:
    """``OneCycleLR`` to ``one_cycle_lr``; ``without`` is a suffix to drop."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__.removesuffix(without)).lower()


def squeezed(name: str) -> str:
    """A name without what does not matter in it: upper case and underscores."""
    return name.replace("_", "").lower()


def _parameters(factory: Factory) -> tuple[dict[str, tuple[inspect.Parameter, Any]], bool]:
    """Parameters with their type hints, and whether any other name is accepted as well."""
    functions: list[Any] = [factory]
    if inspect.isclass(factory):
        functions = [vars(cls)["__init__"] for cls in factory.__mro__ if "__init__" in vars(cls)]
    found: dict[str, tuple[inspect.Parameter, Any]] = {}
    for function in functions:
        hints = _type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        if inspect.isclass(factory):
            parameters = parameters[1:]  # self
        passes_on = False
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                passes_on = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                found.setdefault(parameter.name, (parameter, hints.get(parameter.name, Any)))
        if not passes_on:
            return found, False
    return found, True


def _type_hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # names that exist for type checkers only
        return {}


def _check_type(key: str, value: Any, hint: Any) -> Any:
    try:
        config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        adapter = pydantic.TypeAdapter(hint, config=config)
    except pydantic.PydanticUserError:  # a hint that cannot be checked
        return value
    try:
        converted = adapter.validate_python(value)
        reasons = []
    except pydantic.ValidationError as error:
        converted, reasons = value, sorted({problem["msg"] for problem in error.errors()})
    if isinstance(value, bool) and not isinstance(converted, bool):
        reasons = ["Input should be a number"]  # YAML's yes and no would count as 1 and 0
    if reasons:
        raise RecipeError(f"{key}={value!r} is not accepted: {'; or '.join(reasons)}")
    # Lists stay as they are (an Iterable hint would make them one-way); text may be a number.
    return converted if isinstance(value, str) else value
