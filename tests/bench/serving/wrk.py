"""wrk as the load generator: N connections, each sends the next request when its answer is there.

wrk (https://github.com/wg/wrk) is a C program that sends prepared bytes: about 5 µs of processor time a request, so on two
cores it is not what limits a server here. Percentiles are of all answers, to the microsecond; it corrects them for
coordinated omission (a stall counts for the requests that could not be sent meanwhile), the same for every contestant.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ..stand import BenchError, command

#: What wrk runs: the request, and its figures as the last line.
_SCRIPT = """\
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests": %d, "seconds": %.6f, "failed": %d, "broken": %d, "p50": %.6f, "p99": %.6f, "worst": %.6f}}\\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
"""


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement: requests a second, and seconds.

    :ivar cpu: processor time that the server takes for a request.
    """

    rate: float
    p50: float
    p99: float
    cpu: float = 0.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What is sent: the path, the body, and further headers."""

    path: str
    body: bytes
    headers: dict[str, str]

    def script(self, folder: Path, name: str) -> Path:
        """Write the program for wrk and return its path."""
        body, script = folder / f"{name}.body", folder / f"{name}.lua"
        body.write_bytes(self.body)
        headers = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in self.headers.items())
        script.write_text(_SCRIPT.format(body=body, headers=headers))
        return script


def run(
    port: int, path: str, script: Path, *, connections: int, seconds: int, spent: Callable[[], float] = lambda: 0.0
) -> Point:
    """Send requests to 127.0.0.1:*port* for *seconds*.

    :param spent: returns the seconds of processor time that the server has taken so far.
    :raises BenchError: wrk is not installed, or an answer is an error, is missing, or a connection broke.
    """
    if not shutil.which("wrk"):
        raise BenchError("wrk is not installed: `make stand` installs it")
    before = spent()
    output = command(
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script),
        f"http://127.0.0.1:{port}{path}",
    )
    return read(output, spent() - before)


def read(output: str, spent: float = 0.0) -> Point:
    """Read what the program for wrk has written.

    :param spent: seconds of processor time for all the requests.

    :raises BenchError: there are failed answers, or none at all.
    """
    found = json.loads(output.strip().splitlines()[-1])
    if found["failed"] or found["broken"] or not found["requests"]:
        raise BenchError(
            f"of {found['requests']} requests {found['failed']} were answered with an error, {found['broken']} not at all"
        )
    return Point(found["requests"] / found["seconds"], found["p50"], found["p99"], spent / found["requests"])
