"""Stands in for get-pip.py, which ansible-test would download: installs the wanted pip from the host's own package index.

ansible-test takes a script of this kind from its cache folder, so that sanity runs where only a package index is reachable.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

ensurepip.bootstrap()
# ansible-test runs this through a wrapper with `-c`, hence an environment free of its bootstrap marks
environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
options = [option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *options], env=environment))
