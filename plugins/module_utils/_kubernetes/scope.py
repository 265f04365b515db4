# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, labels and metadata of the objects that a declaration renders to."""

from __future__ import annotations

import dataclasses
import typing as t

from .._deployment.declaration import Declaration
from .declared import KubernetesOptions
from .objects import DEPLOYMENT, Object

#: Name of the serving port, of the container in the pod, and what ``app.kubernetes.io/component`` says of them.
PORT, GRPC, CONTAINER, COMPONENT = "http", "grpc", "serving", "serving"


@dataclasses.dataclass(frozen=True)
class Scope:
    """What every part of the rendering needs: the declaration, its options for Kubernetes, and the namespace."""

    declaration: Declaration
    options: KubernetesOptions
    namespace: str

    @property
    def name(self) -> str:
        """Name of the deployment, and of the objects of which there is one a kind."""
        return self.declaration.name

    @property
    def selector(self) -> dict[str, str]:
        """Labels that the pods are found by; a Deployment's can never be changed."""
        return {DEPLOYMENT: self.name, "app.kubernetes.io/component": COMPONENT}

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the pods, and of every object."""
        return {
            **self.declaration.labels,
            **self.selector,
            "app.kubernetes.io/name": self.name,
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/managed-by": "modelship",
        }

    def metadata(
        self,
        name: str | None = None,
        *,
        labels: t.Mapping[str, str] | None = None,
        annotations: t.Mapping[str, str] | None = None,
    ) -> Object:
        """Return the metadata of an object of the deployment's namespace.

        :param name: the object's name; by default the deployment's.
        :param labels: further ones.
        :param annotations: further ones, stronger than the declared ones of all objects.
        """
        merged = {**self.options.annotations, **(annotations or {})}
        found: Object = {
            "name": name or self.name,
            "namespace": self.namespace,
            "labels": {**self.labels, **(labels or {})},
        }
        return {**found, "annotations": merged} if merged else found


def given(obj: t.Mapping[str, t.Any]) -> Object:
    """Return *obj* without the fields that are ``None``."""
    return {name: value for name, value in obj.items() if value is not None}
