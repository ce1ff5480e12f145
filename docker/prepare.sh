#!/bin/sh
# The user that the hub runs as, and the folders that it may write or read.
# usage: prepare.sh ROOT UID
set -eu
root=${1%/}
uid=$2

echo "hub:x:$uid:$uid:asynchub:/data:/usr/sbin/nologin" >>"$root/etc/passwd"
echo "hub:x:$uid:" >>"$root/etc/group"
# a volume that is mounted the first time takes over the owner
for folder in data files flows; do
    mkdir -p "$root/$folder"
    chown "$uid:$uid" "$root/$folder"
done
chmod 700 "$root/data"
