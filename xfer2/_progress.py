"""What a long fit shows, and how it is interrupted with what it has learned."""

from __future__ import annotations

import sys
import warnings
from types import TracebackType
from typing import Any


class Progress:
    """A bar on standard error, on a terminal only; Ctrl-C inside the ``with`` ends the block and not the program.

    The fit goes on with what it has learned so far, and says so in a warning.

    Parameters
    ----------
    owner : str
        Who is fitting.
    total : int
        Steps, at most.

    Attributes
    ----------
    interrupted : bool

    Examples
    --------
    >>> with Progress("Example", 2) as progress:
    ...     for loss in (1.0, 0.5):
    ...         progress.step(f"loss {loss}")
    >>> progress.interrupted
    False
    """

    def __init__(self, owner: str, total: int) -> None:
        self.owner = owner
        self.total = total
        self.interrupted = False
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                            TextColumn("{task.fields[state]}"), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.owner, total=self.total, state="")
        return self

    def step(self, state: str = "") -> None:
        """One step is done; `state` is shown beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, advance=1, state=state)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if self._bar is not None:
            self._bar.stop()
        self.interrupted = kind is KeyboardInterrupt
        if self.interrupted:
            warnings.warn(f"{self.owner} was interrupted and keeps what it has learned so far.", stacklevel=3)
        return self.interrupted
