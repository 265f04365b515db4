# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared of a deployment for target kubernetes alone."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.deployment_kubernetes``: the options of ``_kubernetes/arguments.py``."""

    DOCUMENTATION = r"""
options:
  namespace:
    description: Target kubernetes only. Namespace of the deployment. By default that of the kubeconfig's context.
    type: str
  kubernetes:
    description:
      - Target kubernetes only. What there is to say of its objects.
      - Sizes are written as in O(limits.memory), percentages as V(25%).
    type: dict
    suboptions:
      create_namespace:
        description:
          - Make the namespace where it does not exist. One that exists is left as it is.
          - Where namespaces cannot be looked at with the user's rights, it is taken to exist.
        type: bool
        default: true
      namespace_labels:
        description: Labels of a namespace that is made, for example C(pod-security.kubernetes.io/enforce=restricted).
        type: dict
        default: {}
      service:
        description: The Service in front of the pods, their address in the cluster.
        type: dict
        suboptions:
          type:
            description: Where it can be reached from.
            type: str
            choices: [ClusterIP, NodePort, LoadBalancer]
            default: ClusterIP
          port:
            description: Port of the Service.
            type: int
            default: 80
          node_port:
            description: Port of the nodes, of the type V(NodePort) or V(LoadBalancer). By default the cluster chooses one.
            type: int
          annotations:
            description: Annotations of the Service.
            type: dict
            default: {}
      service_account:
        description: Who the pods are to the API server.
        type: dict
        suboptions:
          name:
            description: An account that exists. By default the deployment gets one of its own, without any rights.
            type: str
          annotations:
            description: Annotations of the deployment's own account.
            type: dict
            default: {}
          automount:
            description: Give the pods the account's token.
            type: bool
            default: false
      secrets:
        description:
          - Further environment variables, all of them secret, whatever their names are.
          - They are kept in a Secret that is named by its content and never changes, so that pods of two revisions have each
            their own, and a rollback has image and configuration together.
        type: dict
        default: {}
      config_files:
        description:
          - Files in the container, as absolute path and text. They are read-only, and other files of their folders stay.
          - They are kept with O(environment) in a ConfigMap that is named by its content, 1 MiB in all.
        type: dict
        default: {}
      secret_files:
        description: As O(kubernetes.config_files), kept with O(kubernetes.secrets) in the Secret.
        type: dict
        default: {}
      storage:
        description:
          - PersistentVolumeClaims, all pods mount them. Their group is that of O(user), by default 65532.
          - Where one can be mounted on one node only (V(ReadWriteOnce)), all pods run on the same node, unless
            O(kubernetes.affinity) is given, so that a rollout does not wait for a volume that another node has.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The claim is called C(NAME-THIS), NAME being the deployment's.
            type: str
            required: true
          size:
            description: Its size, for example V(10g). It can only grow.
            type: str
            required: true
          mount_path:
            description: Folder in the container.
            type: str
            required: true
          storage_class:
            description: Its class. By default the cluster's.
            type: str
          access_modes:
            description: How it can be mounted.
            type: list
            elements: str
            choices: [ReadWriteOnce, ReadOnlyMany, ReadWriteMany]
            default: [ReadWriteOnce]
          keep:
            description: Let it stay when the deployment, or its declaration here, is removed.
            type: bool
            default: false
      requests:
        description: What a node must have free for each pod. By default O(limits).
        type: dict
        suboptions:
          memory:
            description: Memory, for example V(256m).
            type: str
          cpus:
            description: Cores, for example V(0.5).
            type: float
      gpus:
        description:
          - Accelerators of each pod. Taints of their nodes that are called as the resource are tolerated.
          - While a pod is replaced, the new one needs accelerators of its own. Where there are none left, set
            O(kubernetes.rollout.max_surge=0) and O(kubernetes.rollout.max_unavailable=1).
        type: dict
        suboptions:
          count:
            description: How many.
            type: int
            required: true
          resource:
            description: What the nodes' device plugin calls them.
            type: str
            default: nvidia.com/gpu
      node_selector:
        description: Labels that nodes must have.
        type: dict
        default: {}
      tolerations:
        description: Taints of nodes that do not keep the pods away, as in a pod.
        type: list
        elements: dict
        default: []
      affinity:
        description: Affinity, as in a pod.
        type: dict
      priority_class:
        description: PriorityClass of the pods.
        type: str
      topology_spread:
        description:
          - How pods are spread, as in a pod. Entries without C(labelSelector) get that of the pods of one revision.
          - By default over nodes, as far as possible.
        type: list
        elements: dict
      runtime_class:
        description: RuntimeClass of the pods.
        type: str
      image_pull_secrets:
        description: Secrets in the namespace that the image is pulled with.
        type: list
        elements: str
        default: []
      node_lost_seconds:
        description: Seconds after which the pods of a node that is lost, or not ready, are replaced on others.
        type: int
        default: 30
      liveness_path:
        description:
          - Path that answers 2xx as long as the container need not be started anew.
          - By default C(/v2/health/live) where O(health.path) is V(/v2/health/ready), else the port need only accept connections.
        type: str
      autoscaling:
        description: A HorizontalPodAutoscaler decides the number of pods.
        type: dict
        suboptions:
          external:
            description:
              - An autoscaler that is none of the deployment's own decides, for example that of KEDA's C(ScaledObject), which may
                be among O(kubernetes.extra_resources). Neither is one made nor O(replicas) read; a new deployment begins with
                one pod.
            type: bool
            default: false
          min:
            description: At least so many. By default O(replicas).
            type: int
          max:
            description: At most so many. Required without O(kubernetes.autoscaling.external).
            type: int
          cpu_percent:
            description:
              - Processor time to aim at, as a share of what is requested (O(kubernetes.requests.cpus), else O(limits.cpus)).
              - By default 80 where nothing else is given to follow.
            type: int
          memory_percent:
            description: Memory to aim at, as a share of what is requested.
            type: int
          metrics:
            description: Further metrics, as in a HorizontalPodAutoscaler of C(autoscaling/v2).
            type: list
            elements: dict
            default: []
      disruption_budget:
        description:
          - What a drain of nodes may do to the deployment. Exactly one is given.
          - By default one pod at a time where there can be more than one.
        type: dict
        suboptions:
          min_available:
            description: Pods that must stay, a number or a percentage.
            type: str
          max_unavailable:
            description: Pods that may be missing, a number or a percentage.
            type: str
      network_policy:
        description:
          - A NetworkPolicy for the pods. By default there is none.
          - Golden answers (O(verify)) are asked for through the API server, and Prometheus comes by itself, so on networks that
            hold these to policies they must be among the peers.
        type: dict
        suboptions:
          from:
            description: Peers that reach the serving port, as in a NetworkPolicy; nobody where it is empty.
            type: list
            elements: dict
            required: true
          egress:
            description: Rules for what pods may reach, as in a NetworkPolicy; nothing where it is empty. By default everything.
            type: list
            elements: dict
      ingress:
        description: An Ingress to the Service.
        type: dict
        suboptions:
          host:
            description: Host name.
            type: str
            required: true
          path:
            description: Prefix of the path.
            type: str
            default: /
          class:
            description: IngressClass. By default the cluster's.
            type: str
          tls_secret:
            description: Secret with certificate and key for the host.
            type: str
          annotations:
            description: Annotations of the Ingress.
            type: dict
            default: {}
      http_route:
        description:
          - A HTTPRoute to the Service, where the Gateway API is installed.
          - That a Gateway does not accept it is a failure; that none says anything of it is not.
        type: dict
        suboptions:
          parents:
            description: Gateways that it belongs to.
            type: list
            elements: dict
            required: true
            suboptions:
              name:
                description: Name of the Gateway.
                type: str
                required: true
              namespace:
                description: Its namespace. By default the deployment's.
                type: str
              section:
                description: One of its listeners. By default all.
                type: str
              port:
                description: One of its ports. By default all.
                type: int
          hostnames:
            description: Host names. By default those of the Gateway.
            type: list
            elements: str
            default: []
          path:
            description: Prefix of the path.
            type: str
            default: /
      service_monitor:
        description: A ServiceMonitor, by which Prometheus finds the pods where its operator is installed.
        type: dict
        suboptions:
          enabled:
            description: With V(auto) there is one where the cluster knows the kind; with V(true) the task fails where it does
              not.
            type: str
            choices: [auto, 'true', 'false']
            default: auto
          path:
            description: Path of the metrics.
            type: str
            default: /metrics
          interval:
            description: How often they are read, for example V(30s). By default as Prometheus is set.
            type: str
          labels:
            description: Further labels of the ServiceMonitor, by which some Prometheus choose those that are theirs.
            type: dict
            default: {}
      rollout:
        description: How one revision replaces another.
        type: dict
        suboptions:
          deadline:
            description:
              - Seconds within which everything must be healthy, else the last good revision is put back.
              - Removing the deployment may take as long.
            type: int
            default: 300
          max_surge:
            description: Pods that there may be beyond the wanted number, a number or a percentage.
            type: str
            default: '1'
          max_unavailable:
            description: Pods that may be missing from the wanted number, a number or a percentage. With V(0) no request is lost.
            type: str
            default: '0'
          pre_stop_seconds:
            description:
              - Seconds for which a pod that is to go answers as before, while proxies learn that it goes. Only then
                O(drain_seconds) begin.
            type: int
            default: 5
          history:
            description: Old ReplicaSets that are kept.
            type: int
            default: 5
      pod_annotations:
        description: Annotations of the pods.
        type: dict
        default: {}
      annotations:
        description: Annotations of all objects of the deployment but its extra resources.
        type: dict
        default: {}
      extra_resources:
        description:
          - Further Kubernetes objects, applied, waited for, pruned and removed with the deployment. Each is a mapping; empty
            entries, as C(from_yaml_all) makes of empty YAML documents, are skipped.
          - Those without a namespace get O(namespace) where their kind has one.
          - Objects of custom kinds are ready when their condition C(Ready), C(Available) or C(Healthy) says so, of the
            generation that was applied. One just applied that has none of these yet is given 5 seconds to get one, if its
            kind has a status; without one it is ready by being there. C(Stalled) and C(Failed) are failures.
          - The annotation C(modelship.io/wait-for) on an object names the condition to wait for until the deadline, as in
            C(Synced) or C(Stalled=False).
          - Workloads may use a Secret or ConfigMap that an operator makes of one of them. That it is not there is a failure only
            after 20 seconds.
        type: list
        elements: raw
        default: []
      force:
        description:
          - Take over fields that other managers of the objects hold. By default the task fails and names them.
          - These are declared fields that another manager holds with another value, and fields that are not declared but with
            which what is declared would be invalid, for example a port of a Service with the same name and another number.
            The latter are removed.
        type: bool
        default: false
      wait:
        description:
          - Wait until everything is healthy. Without it nothing is verified, and nothing is put back.
          - Nor is what pods use (ConfigMaps, Secrets, claims, service accounts) pruned then, because those of the revision
            before may still serve. The next run that waits does that.
        type: bool
        default: true
"""
