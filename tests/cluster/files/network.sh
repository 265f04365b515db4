#!/bin/sh
set -eu
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
# From a pod to what is neither a pod nor a Service, the node's address is the one that others can answer to.
rule="POSTROUTING -s @PODS@ ! -d @PODS@ -m comment --comment pods-to-outside -j MASQUERADE"
# shellcheck disable=SC2086
iptables -w -t nat -C $rule 2>/dev/null || iptables -w -t nat -A $rule
@ROUTES@
