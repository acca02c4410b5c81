"""A stop acts at once outside of training, and is quiet however often it is asked for."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest
from small_run import SMALL, run_losses, small_flags

from convnextv2 import pretrain
from convnextv2.data.files import reading
from convnextv2.engine import signals
from convnextv2.errors import StoppedError
from convnextv2.weights.files import checkpoint_of


def stop_soon(number=signal.SIGTERM, seconds=0.5):
    """Send this process a signal soon; returns when."""
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
    return time.monotonic() + seconds


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_while_images_are_decoded_it_acts_at_once_and_nothing_is_left(picture_folder, tmp_path, monkeypatch, name):
    decode = reading.to_pixels
    monkeypatch.setattr(reading, "to_pixels", lambda *given, **limits: time.sleep(0.5) or decode(*given, **limits))
    run, before = tmp_path / "run", signal.getsignal(getattr(signal, name))
    sent = stop_soon(getattr(signal, name))
    with pytest.raises(StoppedError, match=rf"stopped by {name}; before the first step; .* without resume begins anew"):
        pretrain(picture_folder, run, **SMALL, epochs=4)
    assert time.monotonic() - sent < 3, "40 images of half a second each would take 10 s or more"
    assert not run.exists()
    assert signal.getsignal(getattr(signal, name)) is before


def test_resumed_and_stopped_while_it_decodes_the_run_is_as_it_was(picture_folder, tmp_path, monkeypatch):
    run, decode = pretrain(picture_folder, tmp_path / "run", **SMALL, epochs=1).run, reading.to_pixels
    monkeypatch.setattr(reading, "to_pixels", lambda *given, **limits: time.sleep(0.5) or decode(*given, **limits))
    stop_soon()
    with pytest.raises(StoppedError, match=r"stopped by SIGTERM; saved .*step-00000005; continue with resume"):
        pretrain(out=run, resume=True)


def test_while_it_waits_for_images_a_stop_acts_at_once(picture_folder, tmp_path, monkeypatch):
    """A disk that hangs in the middle of training: what was trained is saved."""
    from convnextv2.data.loading.image_set import ImageSet

    run, read = tmp_path / "run", ImageSet.read

    def hang(self, index, window=None):
        if len(run_losses(run)) == 3:
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(30)
        return read(self, index)

    monkeypatch.setattr(ImageSet, "read", hang)
    started = time.monotonic()
    with pytest.raises(StoppedError, match=r"saved .*step-0000000[3-9]"):
        pretrain(picture_folder, run, **SMALL, epochs=4)
    assert time.monotonic() - started < 20
    assert len(run_losses(run)) == int(checkpoint_of(run).name[-8:])


def test_blocks_that_wait_lie_in_blocks_that_do_not():
    reached = []

    def interrupted_inside():
        with signals.interruptible():
            reached.append("inside")

    def waits():
        with signals.stoppable(at_once=False) as request:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert request.signal == signal.SIGUSR1
            with pytest.raises(signals.Interrupted):  # a stop that was asked for before acts where it may
                interrupted_inside()
            reached.append("end of waiting")

    def outside():
        with signals.stoppable(at_once=True):
            waits()
            reached.append("after it")

    with pytest.raises(signals.Interrupted) as stop:
        outside()
    assert stop.value.signal == signal.SIGUSR1
    assert reached == ["end of waiting"]
    interrupted_inside()  # no run: nothing changes
    assert reached == ["end of waiting", "inside"]


def test_the_second_ctrl_c_stops_at_once_unless_it_is_one_long_press():
    reached = []

    def press():
        with signals.stoppable(at_once=False) as request:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            reached.append("a long press")
            request._since -= 2
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("another")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        press()
    assert reached == ["a long press"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("where", ["training", pytest.param("start", marks=pytest.mark.slow)])
def test_six_ctrl_c_are_quiet(picture_folder, tmp_path, where):
    """On a terminal: no traceback, exit code 130, and a checkpoint that is whole."""
    main_end, run_end = pty.openpty()
    run = tmp_path / "run"
    line = ["pretrain", "--data", picture_folder, "--out", run, *small_flags(epochs=10_000, workers=2, log_every=1)]
    process = subprocess.Popen(
        [sys.executable, "-m", "convnextv2", *map(str, line)],
        stdin=run_end,
        stdout=run_end,
        stderr=run_end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(run_end)
    said = bytearray()

    def read():
        with contextlib.suppress(OSError):
            while some := os.read(main_end, 65536):
                said.extend(some)

    reader = threading.Thread(target=read)
    reader.start()
    while process.poll() is None and (len(run_losses(run)) < 3 if where == "training" else not run.exists()):
        time.sleep(0.02)
    for _ in range(6):
        os.write(main_end, b"\x03")
        time.sleep(0.3)
    assert process.wait(timeout=60) == 130, said.decode()
    reader.join()
    text = said.decode()
    assert "Traceback" not in text
    assert "Exception ignored" not in text
    assert "stopped by SIGINT" in text
    if where == "training":
        assert len(run_losses(run)) == int(checkpoint_of(run).name[-8:])
    else:
        assert not (run / "config.json").exists()
