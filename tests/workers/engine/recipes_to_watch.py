"""A recipe that says what it sees, then works until it is told to stop; forked by the tests of warm parents."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from modelyard.workers.recipe import Run, Stopped
from modelyard.workers.registry import RECIPES

PARENT = dict(os.environ)
"""What the process knew that imported this first: a warm parent."""
RECIPES["prepare"] = __name__


def main(run: Run[Any]) -> None:
    """Write `seen.json`; leave behind a forked daemon and a started program; wait."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    seen = {"pid": os.getpid(), "daemon": _fork_daemon(), "program": child.pid}
    seen |= {"parent": PARENT, "environment": dict(os.environ), "arguments": sys.argv[1:]}
    (run.folder / f"seen-{run.rank}.part").write_text(json.dumps(seen))
    (run.folder / f"seen-{run.rank}.part").rename(run.folder / f"seen-{run.rank}.json")
    sys.stderr.write("waiting\n")
    while not run.stop_requested():
        if (run.folder / "end").exists():
            return
        time.sleep(0.02)
    raise Stopped


def _fork_daemon() -> int:
    """As daemons do: fork twice, be a session of one's own, close everything."""
    told, tell = os.pipe()
    if (first := os.fork()) == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            os.closerange(0, 256)
            time.sleep(60)
        else:
            os.write(tell, str(pid).encode())
        os._exit(0)
    os.waitpid(first, 0)
    return int(os.read(told, 20))
