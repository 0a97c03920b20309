#!/usr/bin/env bash
# Make localhost/debian:bookworm-slim with debootstrap, for machines that reach Debian's archive but no image registry.
# Needs root, buildah and debootstrap.
set -euo pipefail
image=localhost/debian:bookworm-slim
driver=${STORAGE_DRIVER:-vfs}
if buildah --storage-driver "$driver" images --quiet "$image" >/dev/null 2>&1; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase bookworm "$work/root" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
container=$(buildah --storage-driver "$driver" from scratch)
buildah --storage-driver "$driver" add -q "$container" "$work/root" / >/dev/null
buildah --storage-driver "$driver" commit -q --rm "$container" "$image"
