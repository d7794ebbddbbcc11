# SPDX-License-Identifier: Apache-2.0
"""Numbers that live long: ids for services and nodes, allocated once and never renumbered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from galelb.errors import GaleError

__all__ = ["Numbering"]


class Numbering:
    """Hands out the numbers 1..`limit` to text keys; a key keeps its number for ever.

    Programs and flow entries hold these numbers, so one is given to another key only after
    `release`, which the caller does when nothing holds it any more.
    """

    def __init__(self, what: str, limit: int, known: Mapping[str, int] | None = None) -> None:
        self._what = what
        self.limit = limit
        self._numbers: dict[str, int] = {}
        self._taken: set[int] = set()
        self._lowest = 1
        """No number below this one is free."""
        for key, number in (known or {}).items():
            self._adopt(key, number)

    def _adopt(self, key: str, number: int) -> None:
        if type(number) is not int or not 1 <= number <= self.limit or number in self._taken:
            raise GaleError(
                f"saved state is damaged: {self._what} {key} has number {number}; "
                "remove the instance with `galelb detach` and start again"
            )
        self._take(key, number)

    def number(self, key: str) -> int:
        """Return the number of `key`, allocating the lowest free one at first.

        Raises GaleError when all numbers are taken.
        """
        if key not in self._numbers:
            self._take(key, self._lowest_free())
        return self._numbers[key]

    def _lowest_free(self) -> int:
        while self._lowest in self._taken:
            self._lowest += 1
        if self._lowest > self.limit:
            raise GaleError(f"more than {self.limit} {self._what}s; remove some that are not used")
        return self._lowest

    def _take(self, key: str, number: int) -> None:
        self._numbers[key] = number
        self._taken.add(number)

    @property
    def spare(self) -> int:
        """How many numbers are free."""
        return self.limit - len(self._numbers)

    def get(self, key: str) -> int | None:
        """Return the number of `key` if it has one."""
        return self._numbers.get(key)

    def release(self, keys: Iterable[str]) -> None:
        """Forget keys whose numbers nothing holds any more."""
        for key in keys:
            number = self._numbers.pop(key, None)
            if number is not None:
                self._taken.discard(number)
                self._lowest = min(self._lowest, number)

    def known(self) -> dict[str, int]:
        """Return all numbers by key, to be persisted."""
        return dict(self._numbers)
