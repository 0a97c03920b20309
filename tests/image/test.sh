#!/usr/bin/env bash
# Build the image without a container engine, look at it, run it and ask it: `make image-test`.
# Needs root (for chroot isolation), buildah and debootstrap.
set -euo pipefail
name=${1:?usage: test.sh NAME}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
buildah() { command buildah --storage-driver "$STORAGE_DRIVER" "$@"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

"$here/base.sh"
BASE=${BASE:-localhost/debian:bookworm-slim} "$here/build.sh" "$name"

inspect=$(buildah inspect --type image "$name" | python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)["Docker"]["config"]))')
check() { python3 -c 'import json,sys; c=json.loads(sys.argv[1]); assert eval(sys.argv[2]), (sys.argv[2], c)' "$inspect" "$1"; }
check 'c["User"].split(":")[0].isdigit() and c["User"][0] != "0"'
check 'c["Healthcheck"]["Test"] == ["CMD", "/usr/bin/dien-server", "--probe", "self"]'
check '"8080/tcp" in c["ExposedPorts"]'
check 'c["Entrypoint"] == ["/usr/bin/dien-server"]'
check 'c["StopSignal"] == "SIGTERM"'
check 'c["Labels"]["org.opencontainers.image.version"] != "unknown"'

container=$(buildah from --pull-never "$name")
log=$(mktemp)
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    buildah umount "$container" >/dev/null 2>&1 || true
    buildah rm "$container" >/dev/null
    rm -f "$log"
}
trap cleanup EXIT
root=$(buildah mount "$container")
for shell in sh bash dash busybox; do
    [ -z "$(find "$root" -name "$shell" -type f)" ] || fail "the image holds $shell"
done
[ -z "$(find "$root" -perm /6000 -type f)" ] || fail "the image holds a set-user-id file"
[ -e "$root/etc/os-release" ] && [ -s "$root/usr/share/doc/dien-server/sbom.spdx.json" ] || fail "the image has no inventory"
[ "$(find "$root/var/lib/dpkg/status.d" -type f | wc -l)" -ge 15 ] || fail "packages are missing in /var/lib/dpkg/status.d"
echo "image: $(du -sm "$root" | cut -f1) MiB, $(find "$root" -type f | wc -l) files"

port=$((20000 + RANDOM % 20000))
command buildah --storage-driver "$STORAGE_DRIVER" run --isolation chroot --user 65532:65532 "$container" -- \
    /usr/bin/dien-server --listen "127.0.0.1:$port" --drain-delay 0 >"$log" 2>&1 &
server=$!
# The HEALTHCHECK's command, with an address that is not the image's own.
probe() { buildah run --isolation chroot --user 65532:65532 --env "DIEN_LISTEN=127.0.0.1:$port" "$container" -- /usr/bin/dien-server --probe self; }
for _ in $(seq 100); do
    probe >/dev/null 2>&1 && break
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; fail "the server ended"; }
    sleep 0.1
done
probe || { cat "$log" >&2; fail "the health check says no"; }
python3 - "$port" <<'PYTHON'
import json, sys, urllib.request
body = open("model/demo/session.json", "rb").read()
request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}/score", body, {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=10))
assert answer["results"], answer
print("image:", answer["model"], answer["version"], "ranks", [result["item"] for result in answer["results"][:3]], "first")
PYTHON
# chroot isolation has a helper between us and the server: the signal goes to the server itself, as an engine's would.
pid=$(pgrep -n -f -- "^/usr/bin/dien-server --listen 127.0.0.1:$port ")
[ "$(stat -c %u "/proc/$pid")" = 65532 ] || fail "the server does not run as 65532"
kill -TERM "$pid"
status=0; wait "$server" || status=$?
server=
[ "$status" = 0 ] || { cat "$log" >&2; fail "exit status $status"; }
! probe >/dev/null 2>&1 || fail "the health check says yes to a server that ended"
echo "image: passed"
