"""Feeds the same levels, true and hostile ones, to both order books, and finds where they differ.

    python -m tests.property.fuzz_kernel --executions 10000000 --seed 1 --jobs 2

An execution is one message. Whatever it is, both must take it or refuse it with the same words, and be the same book
afterwards, digit for digit. A difference is printed with the fewest messages that show it, a crash with its batch
(``--batch N`` plays that one alone and shows each message before it is fed).
"""
import argparse
import faulthandler
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random

from onetape.book.order_book import OrderBook as Reference
from onetape.book.order_book import Window
from tests.property.memory import Laid, alone, followed, wall
from tests.property.spoiled_levels import Operation, hostile

BATCH = 256  # executions of one pair of books
WARM = 400  # batches until all that is kept once is there: caches, arenas of the allocator
MAX_GROWTH = 16 * 2**20  # bytes of memory after that
LAID = (alone, followed(b"5"), followed(b'"]]'), followed(b'0","1"]]'), wall, wall)
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class SmallWindow(Window, frozen=True):
    """Keeps twice its depth, so that small books reach it."""

    def keep(self, cut_at: int) -> int:
        return 2 * self.depth if not self.resends else cut_at


REQUIRED = (2, 3)
WINDOWS = (Window(), Window(3), Window(resends=True), SmallWindow(2), SmallWindow(8), SmallWindow(3, resends=True))


class Both:
    """The two books, fed alike."""

    def __init__(self, kernel, window: Window) -> None:
        self.kernel, self.reference = kernel(window), Reference(window)
        self.kernel.required = self.reference.required = REQUIRED

    def feed(self, it: Operation, laid: Laid = alone) -> str | None:
        """How they differ over it: what one said or raised, what is cheap to see; None: they do not."""
        outcomes: list[object] = []
        for book, how in ((self.reference, alone), (self.kernel, laid)):
            bids, asks = it.bids.levels(how), it.asks.levels(how)
            try:
                if it.cut_at is None:
                    outcomes.append(book.apply(bids, asks))
                else:
                    outcomes.append(book.replace(bids, asks, it.cut_at))
            except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
                outcomes.append(f"{type(error).__name__}: {error}")
        if outcomes[0] != outcomes[1]:
            return f"the reference: {outcomes[0]}, the kernel: {outcomes[1]}"
        ours, theirs = self.kernel, self.reference
        if ours.held != theirs.held or ours.best_bid != theirs.best_bid or ours.best_ask != theirs.best_ask:
            return self.difference()
        return None

    def difference(self) -> str | None:
        """All that can be asked of a book, digit for digit."""
        expected, got = state(self.reference), state(self.kernel)
        return next((f"{name}: the reference {expected[name]}, the kernel {got[name]}"
                     for name in expected if expected[name] != got[name]), None)


def state(book) -> dict[str, str]:
    """What a book shows, as text: Decimals that are equal may differ in their digits."""
    return {
        "best_bid": repr(book.best_bid), "best_ask": repr(book.best_ask),
        "bids": repr(book.bids()), "asks": repr(book.asks()),
        "bids(2)": repr(book.bids(2)), "asks(2)": repr(book.asks(depth=2)),
        "held": repr(book.held), "known": repr(book.known), "orphans": repr(book.orphans),
        "crossed": repr(book.crossed), "window": repr(book.window),
        "required": repr(book.required), "lacks": repr(book.lacks),
        "digits": repr([book.digits(3), book.digits(0, 5, 1), book.digits(9, 28, 28)]),
        "float64": repr([it.tobytes().hex() for it in book.float64()]),
        "float64(2)": repr([bytes(it).hex() for it in book.float64(2)]),
    }


class Difference(AssertionError):
    """The books are not the same book."""


def play(kernel, window: Window, made: Iterable[Operation], laid: Laid, *, show: bool = False) -> str | None:
    """The first difference, looked for after each operation."""
    both = Both(kernel, window)
    for number, it in enumerate(made):
        if show:
            sys.stderr.write(f"{number} {it}\n")
            sys.stderr.flush()
        found = both.feed(it, laid) or both.difference()
        if found:
            return f"after {it}: {found}"
    return None


def shrunk(kernel, window: Window, made: list[Operation], laid: Laid) -> str:
    """A report on the fewest operations that still differ; in their order, without what is not needed."""
    left = list(made)
    number = len(left)
    while number:
        number -= 1
        fewer = left[:number] + left[number + 1 :]
        if play(kernel, window, fewer, laid):
            left = fewer
    return "\n".join([repr(window), *(f"    {it!r}" for it in left), str(play(kernel, window, left, laid))])


def batch_of(seed: int, number: int) -> tuple[Window, Laid, Iterator[Operation]]:
    """Always the same: the window, how the levels lie in memory, and the operations."""
    random = Random(f"{seed}/{number}")
    return random.choice(WINDOWS), random.choice(LAID), islice(hostile(random), BATCH)


def run_batch(kernel, seed: int, number: int) -> None:
    """Raises Difference."""
    window, laid, batch = batch_of(seed, number)
    both, made = Both(kernel, window), list[Operation]()
    for it in batch:
        made.append(it)
        if both.feed(it, laid) or (len(made) % 64 == 0 and both.difference()):
            raise Difference(f"batch {number}\n{shrunk(kernel, window, made, laid)}")


# --- the command ------------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process in memory; 0 where nobody says."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - a thousand times
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0


def run(kernel, seed: int, batches: range, at=None) -> int:
    """Bytes by which memory has grown since it was warm. ``at.value``: the batch that is played."""
    begin = 0
    for done, number in enumerate(batches):
        if at is not None:
            at.value = number
        if done == WARM:
            begin = resident()
        run_batch(kernel, seed, number)
    return resident() - begin if begin else 0


def _worker(seed: int, batches: range, at, answers) -> None:
    from onetape.book._kernel import OrderBook  # noqa: PLC0415

    try:
        grown = run(OrderBook, seed, batches, at)
        answers.put(f"memory grew by {grown / 2**20:.1f} MiB" if grown > MAX_GROWTH else grown)
    except Difference as error:
        answers.put(str(error)[:20_000])  # what a pipe takes without a reader


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, help="only this one, each message shown before it is fed")
    wanted = parser.parse_args()
    if wanted.batch is not None:
        return _one(wanted.seed, wanted.batch)
    began, batches = time.monotonic(), -(-wanted.executions // BATCH)
    started = []
    for job in range(wanted.jobs):
        at, answers = multiprocessing.Value("q", -1), multiprocessing.SimpleQueue()
        mine = range(job, batches, wanted.jobs)
        worker = multiprocessing.Process(target=_worker, args=(wanted.seed, mine, at, answers))
        worker.start()
        started.append((worker, at, answers))
    good = True
    for worker, at, answers in started:
        worker.join()
        said = None if answers.empty() else answers.get()
        if said is None:
            say(f"a worker died with {worker.exitcode} in batch {at.value}: --seed {wanted.seed} --batch {at.value}")
        else:
            say(said if isinstance(said, str) else f"a worker is done; its memory grew by {said / 2**20:.1f} MiB")
        good = good and isinstance(said, int)
    took = time.monotonic() - began
    if good:
        rate = batches * BATCH / took / wanted.jobs
        say(f"{batches * BATCH:,} executions in {took:,.0f} s, {rate:,.0f}/s a job: no difference")
    return not good


def _one(seed: int, number: int) -> int:
    from onetape.book._kernel import OrderBook  # noqa: PLC0415

    faulthandler.enable()
    window, laid, batch = batch_of(seed, number)
    found = play(OrderBook, window, list(batch), laid, show=True)
    say(found or "no difference")
    return found is not None


if __name__ == "__main__":
    sys.exit(main())
