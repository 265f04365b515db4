# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m modelship_serving``: serve the release that the environment names."""

from __future__ import annotations

import os
import sys

# numpy's linear algebra is not used: without this it would start a thread, and reserve memory, for every core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from modelship_serving.errors import StartError
from modelship_serving.server import run
from modelship_serving.settings import read_settings


def main() -> int:
    """Return the exit code: 0 after a drain, 1 when the server could not start (one line on stderr says why)."""
    try:
        return run(read_settings(os.environ))
    except StartError as exc:
        print(f"modelship_serving: {exc}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    # Not sys.exit: taking the interpreter down under the server's native threads can abort the process.
    code = main()
    sys.stdout.flush()
    os._exit(code)
