# The guest's process 1, once its root is there: makes the network and its RDMA devices, runs the command, and ends it all.
# guest.sh starts it.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
shared=/run/guest

finish() {
	echo "$1" >$shared/status
	sync
	python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)' # power off
	sleep 60
}

# Left alone the kernel hands over by itself what goes to its own addresses. By these rules what goes from one node's address
# to another's goes over the wire, and who names none of his own has the first node's: so who connects to 192.0.2.1 meets one
# device with itself, and to any other two devices. Rule 0 (own addresses first) would come before any other, so it moves.
wire() {
	local v=/proc/sys/net/ipv4/conf i address
	echo 0 >$v/all/rp_filter && echo 0 >$v/default/rp_filter && echo 1 >$v/default/accept_local &&
		echo 1 >$v/default/arp_ignore && echo 2 >$v/default/arp_announce &&
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 || return
	{
		echo "link add wires type bridge"
		echo "link set wires mtu 9000 up"
		for ((i = 0; i < nodes; i++)); do
			address=192.0.2.$((i + 1))
			echo "link add rdma$i type veth peer name wire$i"
			echo "link set wire$i mtu 9000 master wires up"
			echo "link set rdma$i mtu 9000 up"
			echo "addr add $address/24 dev rdma$i noprefixroute"
			echo "route add 192.0.2.0/24 dev rdma$i src $address table $((100 + i))"
			echo "rule add pref 10 iif rdma$i lookup local"
			echo "rule add pref 15 from $address to $address lookup local"
			echo "rule add pref 20 from $address to 192.0.2.0/24 lookup $((100 + i))"
		done
		echo "rule add pref 24 to 192.0.2.1 lookup local"
		echo "rule add pref 25 to 192.0.2.0/24 lookup 100"
		echo "rule add pref 30 lookup local"
		echo "rule del pref 0 lookup local"
	} | ip -batch - || return
	for ((i = 0; i < nodes; i++)); do
		rdma link add "$kind$i" type "$kind" netdev "rdma$i" || return
	done
}

# shellcheck source=/dev/null
. $shared/settings
echo guest >/proc/sys/kernel/hostname
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin
ln -sfn fd/1 /dev/stdout
ln -sfn fd/2 /dev/stderr
ip link set lo up
ulimit -l unlimited
ulimit -n 65536
[ "$kind" = none ] || wire || finish 125

# Through pipes, so that the command may open /dev/stdout once more.
stty -F /dev/tty1 raw -echo
stty -F /dev/tty2 raw -echo
mkfifo /run/out /run/err
cat /run/out >/dev/tty1 &
out=$!
cat /run/err >/dev/tty2 &
err=$!
setsid --wait /bin/bash $shared/command </dev/null >/run/out 2>/run/err
status=$?
# A daemon that was left behind may hold the pipes: they are waited for, but not for long.
(sleep 2 && kill $out $err) 2>/dev/null &
wait $out $err
stty -F /dev/tty1 raw # waits until all is out
stty -F /dev/tty2 raw
finish $status
