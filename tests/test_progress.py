"""The bar of a long fit, and its interruption."""

import contextlib
import io
import sys
import warnings

import pytest

from xfer2._progress import Bar, Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_nothing_is_shown_where_standard_error_is_no_terminal(capsys):
    with Progress("Head", 3) as progress:
        progress.step(state="loss 1")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_who_is_fitting_and_how_far(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("Head", 3) as progress:
        progress.step(state="loss 0.25")
        progress._bar.refresh()
        assert "loss 0.25" in terminal.getvalue()
    assert "Head" in terminal.getvalue()
    assert "1/3" in terminal.getvalue()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError])
def test_a_terminal_is_left_as_it_was(monkeypatch, error):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with warnings.catch_warnings(), contextlib.suppress(ZeroDivisionError), Progress("Head", 3) as progress:
        warnings.simplefilter("ignore", UserWarning)
        progress.step()
        if error:
            raise error
    assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")  # up to the bar, and the line erased
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")  # the cursor is back


def test_an_interruption_ends_the_block_with_a_warning_and_the_fit_goes_on():
    with pytest.warns(UserWarning, match="Head was interrupted and keeps what it has learned so far"), \
            Progress("Head", 3) as progress:
        raise KeyboardInterrupt
    assert progress.interrupted


def test_other_errors_pass():
    progress = Progress("Head", 3)
    with pytest.raises(ZeroDivisionError), progress:
        raise ZeroDivisionError
    assert not progress.interrupted


def test_a_bar_inside_a_bar_and_a_quiet_one_show_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Bar("outer", 2) as outer:
        with Bar("inner", 2) as inner:
            inner.step()
        outer.step(2)
    assert "outer" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    assert "inner" not in terminal.getvalue()
    monkeypatch.setattr(Bar, "quiet", True)
    shown = len(terminal.getvalue())
    with Bar("outer", 2), Progress("fit", 2) as progress:
        progress.step()
    assert len(terminal.getvalue()) == shown


def test_an_interruption_of_a_plain_bar_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), Bar("extracting", 3):
        raise KeyboardInterrupt
