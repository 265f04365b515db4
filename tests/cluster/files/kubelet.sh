#!/bin/sh
# All nodes see the host's cgroups. Each keeps its pods below its own container's, so that no kubelet tidies up after another.
own=$(sed -n 's/^[0-9]*:memory://p; s/^0:://p' /proc/1/cgroup | head -n 1)
own=${own%/init.scope}
# A kubelet wants its group in each hierarchy, also in those that Docker does not use.
for hierarchy in /sys/fs/cgroup/*/cgroup.procs; do
  mkdir -p "${hierarchy%/cgroup.procs}$own"
done
# shellcheck disable=SC2086
exec /usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
  --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
  --cgroup-root="$own" $KUBELET_KUBEADM_ARGS
