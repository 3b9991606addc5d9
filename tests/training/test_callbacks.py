"""Logs of training, and what a callback of one's own can do."""

import csv
import struct

import numpy as np
import pytest
from training.blocks import separable, small_block

from xfer2.training.callbacks import Callback, CsvLog, TensorBoardLog, _masked_crc
from xfer2.training.loop import Trainer


def test_the_csv_has_a_line_an_epoch(tmp_path):
    trainer = Trainer(small_block(), epochs=3, random_state=0, callbacks=[CsvLog(tmp_path / "log.csv")]).fit(*separable())
    with (tmp_path / "log.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["loss"]) for line in lines] == [record["loss"] for record in trainer.history_]


def records(path):
    """The records of an event file, their sums checked."""
    content, found = path.read_bytes(), []
    while content:
        length, = struct.unpack("<Q", content[:8])
        assert content[8:12] == _masked_crc(content[:8])
        found.append(content[12:12 + length])
        assert content[12 + length:16 + length] == _masked_crc(found[-1])
        content = content[16 + length:]
    return found


def test_logs_make_their_folder_and_leave_out_what_is_no_number(tmp_path):
    class Named(Trainer):
        def run_epoch(self, epoch, inputs, codes):
            return {**super().run_epoch(epoch, inputs, codes), "note": "warm"}

    logs = [CsvLog(tmp_path / "new" / "log.csv"), TensorBoardLog(tmp_path / "events")]
    Named(small_block(), epochs=1, callbacks=logs, random_state=0).fit(*separable())
    assert "warm" in (tmp_path / "new" / "log.csv").read_text()
    assert b"note" not in next((tmp_path / "events").iterdir()).read_bytes()


def test_the_checksum_is_castagnolis():
    crc, = struct.unpack("<I", _masked_crc(b"123456789"))
    unmasked = (crc - 0xA282EAD8) & 0xFFFFFFFF
    assert (unmasked >> 17 | unmasked << 15) & 0xFFFFFFFF == 0xE3069283  # the check value of CRC-32C


def test_tensorboards_events_hold_every_value_under_its_name(tmp_path):
    log = TensorBoardLog(tmp_path / "runs")
    trainer = Trainer(small_block(), epochs=2, random_state=0, callbacks=[log]).fit(*separable())
    path, = (tmp_path / "runs").glob("events.out.tfevents.*")
    first, *epochs = records(path)
    assert b"brain.Event:2" in first
    assert len(epochs) == 2
    for record, event in zip(trainer.history_, epochs, strict=True):
        for name in ("loss", "accuracy"):
            place = event.index(name.encode()) + len(name)
            assert event[place] == 2 << 3 | 5  # simple_value, a 32-bit float
            assert struct.unpack("<f", event[place + 1:place + 5])[0] == pytest.approx(record[name], rel=1e-6)


def test_a_callback_hears_of_everything_and_may_stop():
    heard = []

    class Listener(Callback):
        def on_fit_start(self, trainer):
            heard.append("start")

        def on_step_end(self, trainer, step, loss):
            assert np.isfinite(loss)
            heard.append(step)

        def on_epoch_end(self, trainer, record):
            trainer.stop = record["epoch"] == 2

        def on_fit_end(self, trainer):
            heard.append("end")

    trainer = Trainer(small_block(), epochs=9, batch_size=45, random_state=0, callbacks=[Listener(), Callback()])
    trainer.fit(*separable())
    assert heard == ["start", 1, 2, 1, 2, "end"]
    assert len(trainer.history_) == 2
