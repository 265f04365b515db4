"""Stands in for get-pip.py, which ansible-test would download: installs the wanted pip from the host's own package index.

ansible-test takes a script of this kind from its cache folder, so that sanity runs where only a package index is reachable.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

ensurepip.bootstrap()
# ensurepip points pip at an empty configuration for the rest of this process; the host's own is wanted here
environment = {name: value for name, value in os.environ.items() if name not in ("GET_PIP", "PIP_CONFIG_FILE")}
options = [option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *options], env=environment))
