"""A run whose disk fills up and is made free again: it goes on, says both once, and has everything in the end."""
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("onetape")
UNLIMITED = resource.RLIM_INFINITY


def test_what_came_while_the_disk_was_full_is_there_when_it_is_free_again(tmp_path):
    store = tmp_path / "store"
    limited = ["bash", "-c", 'ulimit -S -f 256; exec "$@"', "--", COMMAND, "run", "--sim", "--store", store]
    with subprocess.Popen(
        limited, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ) as run:
        try:
            for line in run.stderr:
                if "the store takes nothing" in line:
                    break
            assert "cannot be written" in line
            resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
            for line in run.stderr:
                assert "the store takes nothing" not in line
                if "the store takes rows again" in line:
                    break
            assert "dropped=nothing" in line
            run.send_signal(signal.SIGTERM)
            run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 0
    verify = subprocess.run(
        [COMMAND, "storage", "verify", "--store", store], capture_output=True, text=True, check=False)
    assert (verify.returncode, verify.stdout[:5]) == (0, "sound")
