#!/bin/sh
# make install: install.sh BUILD DESTDIR PREFIX. Programs, the plug-in, man pages, and the helpers that mount(8) and umount(8) look
# for in /sbin, whatever PREFIX is; where that is a link to usr/sbin they go there, since a DESTDIR with a folder sbin would
# take the link's place when it is unpacked.
set -eu
build=$1 destdir=$2 prefix=$3
tree=$(dirname "$0")/..
sbin=/sbin
[ ! -L /sbin ] || sbin=/usr/sbin

install -d "$destdir$prefix/bin" "$destdir$prefix/lib/strake" "$destdir$prefix/share/man/man7" "$destdir$prefix/share/man/man8" "$destdir$sbin"
for program in strake mount.strake strake-mgs strake-mds strake-oss; do
	install -m 755 "$build/bin/$program" "$destdir$prefix/bin/"
done
install -m 755 "$build/lib/strake-rdma.so" "$destdir$prefix/lib/strake/"
for helper in mount.strake mount.fuse.strake; do
	ln -sf "$prefix/bin/mount.strake" "$destdir$sbin/$helper"
done
for helper in umount.strake umount.fuse.strake; do
	ln -sf "$prefix/bin/strake" "$destdir$sbin/$helper"
done
for page in "$tree"/man/*.[78]; do
	install -m 644 "$page" "$destdir$prefix/share/man/man${page##*.}/"
done
