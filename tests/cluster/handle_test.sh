#!/bin/bash
# File handles, as an NFS server uses them: they lead to what they were made of, whatever the kernel and the servers have
# forgotten meanwhile and whatever it is called by now, until it is removed; then to nothing for ever.
. "$(dirname "$0")/lib.sh"

start --osts 2
mount_more "$T/m2"
cd "$T/m" || fail "cd"
mkdir -p deep/er/est
echo first >file
echo second >deep/er/est/file
ln file hard
ln -s where/ever link
mkfifo fifo
handle take . file deep deep/er/est deep/er/est/file hard link fifo >"$T/taken" || fail "taking handles"
cd /

# expect_found WHAT MNT [SED]: what all of them lead to there
expect_found() {
	local wanted=". $2
file first
deep $2/deep
deep/er/est $2/deep/er/est
deep/er/est/file second
hard first
link where/ever
fifo 10000"
	expect "handles $1" "$(sed "${3:-}" <<<"$wanted")" "$(handle open "$2" <"$T/taken" 2>&1)"
}
forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }
expect_found "of what the kernel knows" "$T/m"
forget
expect_found "of what the kernel has forgotten" "$T/m"
expect_found "on another mount" "$T/m2"
strake umount "$T/m" || fail "umount"
mount_more "$T/m"
expect_found "after a remount" "$T/m"
crash mds 0
strake cluster start "$T/c" >/dev/null || fail "restart"
forget
expect_found "after a restart of the MDS" "$T/m"
chmod o+x "$T"
expect "handles that anybody brings" "8 EPERM" "$(setpriv --reuid 4711 --regid 4711 --clear-groups "$(command -v handle)" open "$T/m" \
	<"$T/taken" 2>&1 | sed 's/.* //' | sort | uniq -c | xargs)"

# Written by one, and what is renamed is the same still, also when it is done elsewhere.
forget
head -n 2 "$T/taken" | tail -n 1 | handle append "$T/m" more >/dev/null
expect "written through a handle" "first more" "$(tr '\n' ' ' <"$T/m2/file")"
mv "$T/m/deep/er" "$T/m/er"
mv "$T/m2/deep" "$T/m2/deeper"
mv "$T/m2/er/est/file" "$T/m2/other"
forget
expect_found "of what has other names" "$T/m" "s|/deep/er/est|/er/est|; s|/deep\$|/deeper|"

# In a mounted subdirectory: its root is the root, and what is elsewhere is found, too.
mkdir "$T/s"
MOUNTS="$MOUNTS $T/s"
mount.strake "$MGS:/er" "$T/s" || fail "mount of a subdirectory"
(cd "$T/s" && handle take . est >"$T/taken-s") || fail "taking handles in a mounted subdirectory"
forget
expect "handles in a mounted subdirectory" ". $T/s
est $T/s/est" "$(handle open "$T/s" <"$T/taken-s" 2>&1)"
expect "a file elsewhere" "hard first" "$(grep ^hard "$T/taken" | handle open "$T/s" 2>&1)"

# Who is removed is gone, also while open elsewhere; who is open here is found until he is closed.
stale() { sed "s/ .*/ ESTALE/" "$T/taken" | grep -v '^\.'; }
found() { grep -v '^\.' "$T/taken" | handle open "$1" 2>&1; }
rm "$T/m/file"
expect "a handle by way of the other name" "file first" "$(grep '^file ' "$T/taken" | handle open "$T/m")"
exec 3<"$T/m/hard"
rm -r "${T:?}/m/"*
forget
expect "removed and open" "hard first" "$(grep '^hard ' "$T/taken" | handle open "$T/m")"
expect "removed and open elsewhere" "hard ESTALE" "$(grep '^hard ' "$T/taken" | handle open "$T/m2")"
exec 3<&-
expect "removed" "$(stale)" "$(found "$T/m")"
expect "removed elsewhere" "$(stale)" "$(found "$T/m2")"
for i in $(seq 50); do echo "$i" >"$T/m/$i"; done
forget
expect "removed, and others made" "$(stale)" "$(found "$T/m")"
