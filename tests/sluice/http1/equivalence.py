"""Generated cases that two set-ups must treat alike, and how a case that they do not is told of."""

import asyncio
import importlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Any, Generic, TypeVar

HEAD_END = b"\r\n\r\n"

# What was seen, in order: a connection's number, what happened on it, and what with.
Seen = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """What one read brings, and what happens behind it."""

    data: bytes
    then: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """Messages that are sent on one connection, in the reads that bring them."""

    connection: int
    reads: tuple[Read, ...]


R = TypeVar("R", bound=Round)


@dataclass(frozen=True, slots=True)
class Outcome:
    """wrong: what must not be, if anything. hits: how often a cache was of use."""

    wrong: str | None
    hits: int = 0


@dataclass(frozen=True, slots=True)
class Property(Generic[R]):
    """make: the case of a seed. play: what comes of a case. module: where this is PROPERTY."""

    make: Callable[[int], tuple[R, ...]]
    play: Callable[[Sequence[R]], Awaitable[Outcome]]
    module: str

    async def check(self, seeds: Iterable[int]) -> int:
        """How often caches were of use in the cases of all seeds.

        Raises AssertionError with the first case that is wrong.
        """
        hits = 0
        for seed in seeds:
            case = self.make(seed)
            outcome = await self.play(case)
            hits += outcome.hits
            if outcome.wrong is not None:
                raise AssertionError(await self._report(seed, case))
        return hits

    async def _report(self, seed: int, case: Sequence[R]) -> str:
        shrunk = await self._shrunk(list(case))
        lines = [f"seed {seed} of {self.module}, shrunk from {len(case)} rounds to {len(shrunk)}:"]
        for each in shrunk:
            lines.append(f"  connection {each.connection}{_rest(each)}")
            lines += [f"    {_short(read.data)} {read.then}" for read in each.reads]
        lines.append(str((await self.play(shrunk)).wrong))
        code = f"import asyncio; from {self.module} import PROPERTY as p; "
        code += f"asyncio.run(p.check([{seed}]))"
        return "\n".join([*lines, f"Again: python -c '{code}'"])

    async def _shrunk(self, case: list[R]) -> list[R]:
        """A case that is still wrong, with less in it."""
        smaller = iter(_smaller(case))
        while (candidate := next(smaller, None)) is not None:
            if (await self.play(candidate)).wrong is not None:
                case = candidate
                smaller = iter(_smaller(case))
        return case


def check_range(module: str, begin: int, end: int) -> int:
    """`check` of a module's PROPERTY for the seeds from `begin` to before `end`, in a process."""
    logging.disable()
    checked: Property[Round] = importlib.import_module(module).PROPERTY
    return asyncio.run(checked.check(range(begin, end)))


def _smaller(case: list[R]) -> Iterator[list[R]]:
    """The case with one thing less: a round, something that happens, a cut."""
    for at in range(len(case)):
        yield case[:at] + case[at + 1 :]
    for at, each in enumerate(case):
        reads = each.reads
        for number, read in enumerate(reads):
            if read.then:
                quiet = (*reads[:number], Read(read.data), *reads[number + 1 :])
                yield [*case[:at], replace(each, reads=quiet), *case[at + 1 :]]
            if number:
                joined = Read(reads[number - 1].data + read.data, read.then)
                fewer = (*reads[: number - 1], joined, *reads[number + 1 :])
                yield [*case[:at], replace(each, reads=fewer), *case[at + 1 :]]


def _rest(each: Round) -> str:
    """What a round holds beside its reads and what they bring."""
    left_out = {"connection", "reads", "messages"}
    names = [name for name in type(each).__dataclass_fields__ if name not in left_out]
    return "".join(f", {name}={getattr(each, name)}" for name in names)


def _short(data: bytes) -> str:
    """`data` with runs of one byte told by their length."""
    return re.sub(r"(.)\1{9,}", lambda run: f"{run[1]}*{len(run[0])}", repr(data))


def difference(one: Sequence[Seen], other: Sequence[Seen]) -> str | None:
    """Where two sequences part; one is with the cache, other without it."""
    if one == other:
        return None
    at = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None
    )
    if at is None:
        at = min(len(one), len(other))
    lines = [f"       {each}" for each in one[max(0, at - 4) : at]]
    lines.append(f"with:    {one[at : at + 2]}")
    lines.append(f"without: {other[at : at + 2]}")
    return "\n".join(lines)


def cuts(chance: Random, messages: Sequence[bytes], lengths: Sequence[int]) -> list[int]:
    """Where reads part the bytes of `messages`, in order.

    lengths: those that the messages declare. Where a cache could be led to take a part for a whole
    is tried often: behind the first head, and as many bytes further on as one of them says.
    """
    data = b"".join(messages)
    places: list[int] = []
    match chance.choice("wwwwwmcccrr"):
        case "m":
            places = list(accumulate(map(len, messages)))
        case "c":
            behind = data.find(HEAD_END) + 4
            fitting = [behind + length for length in lengths if behind + length < len(data)]
            places = chance.choices([0, behind, behind, *fitting, *fitting, *fitting])
        case "r":
            places = [chance.randrange(len(data)) for _ in range(chance.randint(1, 3))]
    return sorted(place for place in set(places) if 0 < place < len(data))


def reads(
    chance: Random, messages: Sequence[bytes], places: Sequence[int], then: Sequence[str]
) -> tuple[Read, ...]:
    """The bytes of `messages` parted at `places`; then: what may happen behind a read."""
    data = b"".join(messages)
    spans = zip([0, *places], [*places, len(data)], strict=True)
    return tuple([Read(data[a:b], chance.choice(then)) for a, b in spans])


def damaged(chance: Random, data: bytes, tokens: Sequence[bytes]) -> bytes:
    """`data` with a byte changed, some lost, or a token that may tell something put in."""
    place = chance.randrange(len(data))
    kind = chance.randrange(3)
    if kind == 0:
        return data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]
    if kind == 1:
        return data[:place] + data[place + chance.randint(1, 9) :]
    return data[:place] + chance.choice(tokens) + data[place:]
