#!/bin/sh
# inventory.sh ROOT VERSION LIBRARY...: writes down, below ROOT, which Debian packages the image's libraries come from, as
# scanners look for it: /etc/os-release, /var/lib/dpkg/status.d, the packages' copyright files, and an SBOM in SPDX 2.3.
set -eu
root=$1 version=$2
shift 2
created=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# dpkg knows a file of /usr/lib under the name that its package gave it, with or without /usr; it takes its time for each
# call. A library that Debian's alternatives choose is known by the file that it stands for.
names() {
    for name in "${1#/usr}" "$(readlink -f "$1")"; do
        printf '%s\n' "${name#/usr}" "/usr${name#/usr}"
    done
}
for library; do
    names "$library"
done >"$work/names"
xargs dpkg -S <"$work/names" >"$work/owners" 2>/dev/null || true
for library; do
    names "$library" | sed 's/^/: /' >"$work/wanted"
    grep -F -f "$work/wanted" "$work/owners" >"$work/found" || { echo "inventory.sh: no package has $library" >&2; exit 1; }
    sed -n '1{s/: .*//; s/,.*//; p}' "$work/found" >>"$work/all"
done
sort -u "$work/all" >"$work/packages"

install -D -m 644 /usr/lib/os-release "$root/usr/lib/os-release"
install -d "$root/etc" "$root/var/lib/dpkg/status.d"
ln -sf ../usr/lib/os-release "$root/etc/os-release"

# A name of SPDX has letters, digits, dots and hyphens.
entry() { # NAME VERSION LICENCE PURL
    id=SPDXRef-Package-$(printf %s "$1" | tr -c 'A-Za-z0-9.-' -)
    printf ',\n  {"SPDXID": "%s", "name": "%s", "versionInfo": "%s", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,\n' "$id" "$1" "$2"
    printf '   "licenseConcluded": "NOASSERTION", "licenseDeclared": "%s", "copyrightText": "NOASSERTION",\n' "$3"
    printf '   "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "%s"}]}' "$4"
    printf '%s\n' "$id" >>"$work/ids"
}
entry dien-server "$version" Apache-2.0 "pkg:generic/dien-server@$version" >"$work/entries"
while read -r package; do
    name=${package%%:*}
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$name"
    chmod 644 "$root/var/lib/dpkg/status.d/$name"
    install -D -m 644 "/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/copyright"
    release=$(sed -n 's/^Version: //p' "$root/var/lib/dpkg/status.d/$name")
    architecture=$(sed -n 's/^Architecture: //p' "$root/var/lib/dpkg/status.d/$name")
    locator=$(printf %s "$release" | sed 's/+/%2B/g; s/:/%3A/g; s/~/%7E/g')
    entry "$name" "$release" NOASSERTION "pkg:deb/debian/$name@$locator?arch=$architecture&distro=bookworm" >>"$work/entries"
done <"$work/packages"

sum=$(sort "$work/ids" "$root"/var/lib/dpkg/status.d/* | sha256sum | cut -c1-32)
sbom=$root/usr/share/doc/dien-server/sbom.spdx.json
install -d "$(dirname "$sbom")"
{
    printf '{"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "dien-server-image",\n'
    printf ' "documentNamespace": "urn:dien:sbom:%s:%s",\n' "$version" "$sum"
    printf ' "creationInfo": {"created": "%s", "creators": ["Tool: deploy-image-inventory.sh"]},\n' "$created"
    printf ' "packages": [\n'
    sed '1d' "$work/entries"
    printf '\n ],\n "relationships": [\n'
    printf '  {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Package-dien-server"}'
    grep -v '^SPDXRef-Package-dien-server$' "$work/ids" | while read -r id; do
        printf ',\n  {"spdxElementId": "SPDXRef-Package-dien-server", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": "%s"}' "$id"
    done
    printf '\n ]}\n'
} >"$sbom"
chmod 644 "$sbom"
