#!/usr/bin/env bash
# Build the container image NAME with whichever of buildah, podman and docker there is.
# BASE names another base image than Debian's own, such as a mirror's or one made by base.sh.
set -euo pipefail
name=${1:?usage: build.sh NAME}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=$(sed -n 's/.*SERVER_VERSION "\(.*\)".*/\1/p' server/base/version.h)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
arguments=(-f Dockerfile --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "SOURCE_DATE_EPOCH=$epoch"
           --build-arg "CREATED=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" -t "$name" ${BASE:+--build-arg "BASE=$BASE"} .)
if command -v buildah >/dev/null; then
    # Docker's format: OCI's has no health check. chroot isolation needs no engine and no privileged namespaces.
    exec buildah ${STORAGE_DRIVER:+--storage-driver "$STORAGE_DRIVER"} bud --format docker --isolation "${ISOLATION:-chroot}" "${arguments[@]}"
elif command -v podman >/dev/null; then
    exec podman build --format docker "${arguments[@]}"
else
    exec docker build "${arguments[@]}"
fi
