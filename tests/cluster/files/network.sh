#!/bin/sh
set -eu
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
# From a pod to what is neither a pod nor a Service, the node's address is the one that others can answer to.
rule="POSTROUTING -s @PODS@ ! -d @PODS@ -m comment --comment pods-to-outside -j MASQUERADE"
# shellcheck disable=SC2086
iptables -w -t nat -C $rule 2>/dev/null || iptables -w -t nat -A $rule
# What no rule of kube-proxy has turned to a pod must not leave the machine: a site's proxy might answer in its place.
for chain in OUTPUT FORWARD; do
  iptables -w -C $chain -d @SERVICES@ -j REJECT 2>/dev/null || iptables -w -A $chain -d @SERVICES@ -j REJECT
done
@ROUTES@
