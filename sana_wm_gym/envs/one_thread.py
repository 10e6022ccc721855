"""Calls of an environment from two threads at once are refused."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


class OneThread:
    """A lock that does not wait: `with` raises where another thread is inside.

    A copy, pickled or not, is a new lock.

    Raises:
        RuntimeError: Another thread is inside.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "the environment is in use by another thread, expected one thread at a time"
            )

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[OneThread], tuple[()]]:
        return OneThread, ()


def one_thread(method: Method) -> Method:
    """A method of an object whose `_one_thread` is a `OneThread`, run inside it."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._one_thread:
            return method(self, *args, **kwargs)

    return cast(Method, guarded)
