#!/usr/bin/env bash
# curl.sh BASE SCRIPT VARIANT: curl, all requests of the script in one process, and so on one connection while it lasts.
# VARIANT is a further option of curl's, or "-". With HTTP/2 each request has a process of its own, because curl 7.88
# fails when it uses a connection without TLS again; there a body comes from standard input, so that its length is unknown.
set -eu
base=$1 script=$2 variant=$3
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
arguments=()
count=0
while read -r method path form body; do
    one=(-s -X "$method" -o "$out/$count" -w '%{http_code}\n')
    [ "$variant" = - ] || one+=("$variant")
    case $form in
        plain) one+=(--data-binary "@$body" -H 'Content-Type: application/json') ;;
        stream) one+=(-H 'Content-Type: application/json') ;;
    esac
    if [ "$variant" = --http2-prior-knowledge ]; then
        [ "$form" != stream ] || one+=(-T -)
        curl "${one[@]}" "$base$path" < "$([ "$body" = - ] && echo /dev/null || echo "$body")" >> "$out/statuses"
    else
        [ "$form" != stream ] || one+=(-T "$body" -H 'Transfer-Encoding: chunked')
        [ "$count" = 0 ] || arguments+=(--next)
        arguments+=("${one[@]}" "$base$path")
    fi
    count=$((count + 1))
done < "$script"
[ "$variant" = --http2-prior-knowledge ] || curl "${arguments[@]}" > "$out/statuses"
count=0
while read -r status; do
    touch "$out/$count" # a reply without a body leaves no file
    echo "$status $(base64 -w0 "$out/$count")"
    count=$((count + 1))
done < "$out/statuses"
