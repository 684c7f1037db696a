"""How a rule of AWS is put in front of an operation of moto."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def before(owner: type, method: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the decorated check before `owner.method`, with the same arguments; its AwsError is the answer."""

    def install(check: Callable[..., None]) -> Callable[..., None]:
        original = getattr(owner, method)

        @functools.wraps(original)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            check(self, *args, **kwargs)
            return original(self, *args, **kwargs)

        setattr(owner, method, checked)
        return check

    return install


def after(owner: type, method: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the decorated function after `owner.method`, with its result and the same arguments."""

    def install(follow: Callable[..., None]) -> Callable[..., None]:
        original = getattr(owner, method)

        @functools.wraps(original)
        def followed(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            follow(self, result, *args, **kwargs)
            return result

        setattr(owner, method, followed)
        return follow

    return install


def replace(owner: Any, name: str, value: Any) -> None:
    """Put something of the sandbox's in the place of an attribute of moto's."""
    setattr(owner, name, value)
