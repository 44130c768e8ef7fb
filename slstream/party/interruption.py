"""SIGINT, SIGTERM and a closed terminal, while an event loop runs."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_before: dict[signal.Signals, Any] = {}
"""What was done about a signal; here, as several parties in one event loop take it over in turn."""


@contextmanager
def interruptible(interrupt: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call ``interrupt`` on the running event loop for each signal that asks to end.

    A signal that is ignored, as ``nohup`` has it with SIGHUP, stays so. What was done about a
    signal before is done again afterwards. In another thread than the main one nothing is
    handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handled = [each for each in _HANDLED if signal.getsignal(each) is not signal.SIG_IGN]
    for number in handled:
        _before.setdefault(number, signal.getsignal(number))
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)  # Leaves the system's own way of handling it.
            if number in _before:
                signal.signal(number, _before.pop(number))
