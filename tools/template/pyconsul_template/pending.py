"""The value of a lookup whose data is not there (yet).

Every operation on it quietly gives it again, so that a template needs no
guards; the render that met it is incomplete and its text is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import Undefined


class Pending(Undefined):
    """Absorbs attribute, item, call, arithmetic and iteration."""

    __slots__ = ()

    def _again(self, *_args: Any, **_kwargs: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        # Dunder probes (copying, coercion) must see an object without them.
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    __getitem__ = __call__ = _again  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _again
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _again
    __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __pos__ = _again

    def _never(self, _other: object) -> Any:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _never

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(type(self))

    def __str__(self) -> str:
        return ""

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __int__(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 0

    def __float__(self) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 0.0

    def __contains__(self, _item: object) -> bool:
        return False


PENDING = Pending(name="pending data")


def absorbing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` giving ``PENDING`` when an argument is pending."""

    def apply(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            if type(value) is Pending:
                return value
        return function(*args, **kwargs)

    return apply
