"""What long work shows, and how a fit is interrupted with what it has learned."""

from __future__ import annotations

import sys
import warnings
from types import TracebackType
from typing import Any, ClassVar


class Bar:
    """A bar with the time left on standard error, on a terminal only; inside another bar it shows nothing.

    Parameters
    ----------
    owner : str
        What is going on.
    total : int, optional
        Steps, at most, where that is known.

    Examples
    --------
    >>> with Bar("Example", 2) as bar:
    ...     bar.step(2)
    """

    quiet: ClassVar[bool] = False  # whether no bar is shown at all; the command line's --quiet
    _shown: ClassVar[Bar | None] = None

    def __init__(self, owner: str, total: int | None = None) -> None:
        self.owner = owner
        self.total = total
        self._bar: Any = None

    def __enter__(self) -> Any:
        if sys.stderr.isatty() and not Bar.quiet and Bar._shown is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
                                 TimeRemainingColumn(), TextColumn("{task.fields[state]}"), console=Console(stderr=True),
                                 transient=True, expand=True)
            self._bar.start()
            self._task = self._bar.add_task(self.owner, total=self.total, state="")
            Bar._shown = self
        return self

    def step(self, count: int = 1, state: str = "") -> None:
        """So many steps are done; `state` is shown beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, advance=count, state=state)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> bool | None:
        if self._bar is not None:
            self._bar.stop()
            Bar._shown = None
        return None


class Progress(Bar):
    """The bar of a fit; Ctrl-C inside the ``with`` ends the block and not the program.

    The fit goes on with what it has learned so far, and says so in a warning.

    Attributes
    ----------
    interrupted : bool

    Examples
    --------
    >>> with Progress("Example", 2) as progress:
    ...     for loss in (1.0, 0.5):
    ...         progress.step(state=f"loss {loss}")
    >>> progress.interrupted
    False
    """

    interrupted = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        super().__exit__(kind, error, trace)
        self.interrupted = kind is KeyboardInterrupt
        if self.interrupted:
            warnings.warn(f"{self.owner} was interrupted and keeps what it has learned so far.", stacklevel=3)
        return self.interrupted
