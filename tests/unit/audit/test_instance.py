from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from guard.audit.instance import Instance


def test_an_instance_survives_its_text() -> None:
    """What is written is read again."""
    here = Instance.current()
    assert Instance.parse(str(here)) == here


@pytest.mark.parametrize("text", ["", "host", "host/12", "host/x-1", "/1-a", "host/-a"])
def test_other_text_is_no_instance(text: str) -> None:
    """Text in another form is None."""
    assert Instance.parse(text) is None


def test_a_process_that_ended_is_dead() -> None:
    """A run on this host whose process is gone is dead, a running one is not."""
    here = Instance.current()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    there = replace(here, pid=child.pid, nonce="other")
    assert not here.outlived(there)
    child.communicate(b"\n")
    assert here.outlived(there)


def test_an_earlier_run_with_the_same_number_is_dead() -> None:
    """A restarted container has its predecessor's process number."""
    here = Instance.current()
    assert here.outlived(replace(here, nonce="before"))
    assert not here.outlived(here)


def test_another_host_is_left_alone() -> None:
    """Nothing is known about processes of other hosts."""
    here = Instance.current()
    assert not here.outlived(replace(here, host="elsewhere", pid=os.getpid()))
