# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The builders of ``image_build`` by name. One more (podman, buildah) is one more function here."""

from __future__ import annotations

import typing as t

from .._core.runner import Context, Outcome
from . import build, docker_build

#: A builder takes the module's options and leaves an OCI layout in *dest*; it returns the result dict ``image``.
Builder = t.Callable[[dict[str, t.Any], Context], Outcome]

BUILDERS: dict[str, Builder] = {"oci": build.build_image, "docker": docker_build.build_image}


def build_image(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Build with the builder that the option ``builder`` names."""
    return BUILDERS[parameters["builder"]](parameters, context)
