#!/bin/bash
# An answer's RDMA WRITE is held back on the wire while its call goes over to TCP, is cancelled or takes longer than it may, until
# the call's memory is somebody else's: what comes then reaches nothing. In a guest (guest.sh), whose two devices are joined by a
# wire: RDMA goes over it, and TCP does not.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"

port=7777
ip rule add pref 5 ipproto tcp dport $port lookup local && ip rule add pref 5 ipproto tcp sport $port lookup local || fail "no rule"
# From the second device to the first.
for way in moved cancelled timed-out; do
	timeout 150 late_write 192.0.2.2:$port wire0 6 rdma0 $way || fail "late_write $way"
done
