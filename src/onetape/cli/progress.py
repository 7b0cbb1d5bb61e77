"""A bar for long work: on stderr, and only where that is a terminal."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[str, int, int], None]
"""What is worked at, and how much of it is done of how much; more than is done is never told."""


@contextmanager
def progress() -> Iterator[Tell]:
    """A bar for each thing that is worked at, with how long it has taken and may take."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():  # only one is worked at
                    bars.update(task, visible=False)
                tasks[what] = bars.add_task(what, total=max(total, 1))
            bars.update(tasks[what], completed=done)

        yield tell
