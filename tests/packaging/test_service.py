"""The systemd unit: it verifies, and says what the daemon needs."""

import configparser
import shutil
import subprocess
from pathlib import Path

UNIT = Path(__file__).parents[2] / "conf" / "sabotd.service"


def test_systemd_accepts_the_unit(tmp_path):
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is missing; install it with: apt-get install systemd"
    program = tmp_path / "sabotd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "sabotd.service"
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/sabot/bin/sabotd", str(program)))
    done = subprocess.run([tool, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


def test_the_unit_notifies_and_has_a_user_and_a_state_folder():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # keys of systemd are case-sensitive
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["WatchdogSec"]
    assert service["User"] == "sabot"
    assert service["StateDirectory"] == "sabot"
    assert int(service["TimeoutStopSec"].removesuffix("s")) > 10
    assert service["RestartPreventExitStatus"] == "2"
