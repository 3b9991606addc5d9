"""What may happen between the steps of training: a base of no-ops, and logs for spreadsheets and TensorBoard."""

from __future__ import annotations

import csv
import os
import struct
import time
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

Record = Mapping[str, float]


class Callback:
    """Called by the `Trainer` as it goes; every method does nothing until it is overridden.

    Examples
    --------
    >>> class Stop(Callback):
    ...     def on_epoch_end(self, trainer, record):
    ...         trainer.stop = record["accuracy"] == 1
    """

    def on_fit_start(self, trainer: Any) -> None:
        """Before the first epoch; ``trainer.history_`` is not empty where a run is resumed."""

    def on_epoch_start(self, trainer: Any, epoch: int) -> None:
        """Before an epoch, counted from 1."""

    def on_step_end(self, trainer: Any, step: int, loss: float) -> None:
        """After a step of an epoch, counted from 1, with the batch's mean loss."""

    def on_epoch_end(self, trainer: Any, record: Record) -> None:
        """After an epoch, with its line of the history; setting ``trainer.stop`` to True makes it the last."""

    def on_fit_end(self, trainer: Any) -> None:
        """After the last epoch, with the parameters that are kept."""


class CsvLog(Callback):
    """One line an epoch, in a CSV file that is written anew after each.

    Parameters
    ----------
    path : str or path
        Its folder is made where it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_fit_start(self, trainer: Any) -> None:
        """Make the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, trainer: Any, record: Record) -> None:
        """Write the whole history, so that a resumed run leaves no line out and none twice."""
        history = trainer.lines()
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for line in history for name in line)))
            writer.writeheader()
            writer.writerows(history)


class TensorBoardLog(Callback):
    """One scalar a column of numbers of the history, in an event file that TensorBoard reads; written without TensorBoard.

    Parameters
    ----------
    folder : str or path
        Made where it is not there.

    References
    ----------
    Records: tensorflow/core/lib/io/record_writer.h; events: tensorflow/core/util/event.proto.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._path: Path | None = None

    def on_fit_start(self, trainer: Any) -> None:
        """Begin a file of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / f"events.out.tfevents.{time.time_ns()}.xfer2"
        self._path.write_bytes(_record(_double(1, time.time()) + _bytes(3, b"brain.Event:2")))
        for record in trainer.history_:
            self.on_epoch_end(trainer, record)

    def on_epoch_end(self, trainer: Any, record: Record) -> None:
        """Append the epoch's values."""
        assert self._path is not None
        values = b"".join(_bytes(1, _bytes(1, name.encode()) + _tag(2, 5) + struct.pack("<f", value))
                          for name, value in record.items() if name != "epoch" and isinstance(value, Real))
        step = len(trainer.earlier) + int(record["epoch"])
        event = _double(1, time.time()) + _tag(2, 0) + _varint(step) + _bytes(5, values)
        with self._path.open("ab") as file:
            file.write(_record(event))


def _tag(field: int, kind: int) -> bytes:
    return bytes([field << 3 | kind])


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _bytes(field: int, content: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(content)) + content


def _double(field: int, value: float) -> bytes:
    return _tag(field, 1) + struct.pack("<d", value)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked_crc(length) + content + _masked_crc(content)


def _masked_crc(content: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc32c_table()
