import subprocess
import sys

import pytest

from lightning_polycom.cli import COMMANDS


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['polycom', '--help']\n"
        "from lightning_polycom.cli import main; main()\n"
        "heavy = {'torch', 'lightning', 'lm_eval', 'numpy', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert f"\n  {command} " in found.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(polycom, command):
    outcome = polycom(command, "--help")
    assert outcome.code == 0
    assert "usage:" in outcome.out.lower()


def test_version(polycom):
    from lightning_polycom import __version__

    assert polycom("--version").out.strip() == __version__


def test_an_interrupt_is_one_line(polycom, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_polycom.commands.prepare.main", interrupted)
    outcome = polycom("prepare")
    assert (outcome.code, outcome.err) == (130, "polycom: prepare was interrupted\n")
