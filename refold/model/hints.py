"""Reading annotations: what a name in a signature or a class body stands for."""

import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from refold.errors import WiringError


def hints(thing: type | Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a class or function with names resolved and `Annotated` kept."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except (NameError, AttributeError, SyntaxError) as error:
        raise WiringError(
            f"{described(thing)} has an annotation that cannot be resolved: {error}. "
            "Import the name, and define it at the top level of a module"
        ) from None
    except TypeError as error:
        raise WiringError(f"{described(thing)} has an annotation that is not a type: {error}") from None


def peeled(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what stands inside `Annotated`, type aliases and `NewType`, and the marks found on the way."""
    marks: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *found = get_args(annotation)
            marks += tuple(found)
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation, marks


def is_union(inner: Any) -> bool:
    """Tell whether a peeled annotation is a union."""
    return get_origin(inner) in (Union, types.UnionType)


def members(annotation: Any) -> Iterator[Any]:
    """Return the members of a union, or the one thing that it is; what `Annotated` says of them is left out."""
    inner, _ = peeled(annotation)
    if is_union(inner):
        for member in get_args(inner):
            yield from members(member)
    else:
        yield inner


def described(thing: object) -> str:
    """Name a function or class the way an error should: where it is, and what it is called."""
    name = getattr(thing, "__qualname__", None) or repr(thing)
    module = getattr(thing, "__module__", None)
    return f"{module}.{name}" if module else name
