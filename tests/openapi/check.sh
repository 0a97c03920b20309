#!/bin/sh
# Checks proto/openapi.json, proto/admin.json and their examples with public validators: see check.mjs. They are installed into the build
# tree, as package-lock.json has them, when they are not there yet.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
tools=${OPENAPI_TOOLS:-$top/build/openapi}

if ! cmp -s "$here/package-lock.json" "$tools/installed-lock.json"; then
  mkdir -p "$tools"
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$tools/"
  (cd "$tools" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) >&2
  cp "$here/package-lock.json" "$tools/installed-lock.json"
fi
cp "$here/check.mjs" "$tools/check.mjs"
node "$tools/check.mjs" "$top/proto/openapi.json"
exec node "$tools/check.mjs" "$top/proto/admin.json"
