#!/usr/bin/env bash
# Builds the release of this commit twice, in clones that lie in different places, the second time without anything that the
# go command has in its cache, and fails where a byte differs. Settings as for release.sh.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet . "$work/one"
git clone --quiet . "$work/another-place"
bash "$work/one/packaging/release.sh" "$work/first" >/dev/null
BUILDFLAGS=-a bash "$work/another-place/packaging/release.sh" "$work/second" >/dev/null
diff -r "$work/first" "$work/second"
(cd "$work/first" && sha256sum --check --quiet SHA256SUMS)
for archive in "$work"/first/*.tar.gz; do
	tar -tzf "$archive" >/dev/null
done
for bill in "$work"/first/*.cdx.json; do
	grep -q '"name": "github.com/tetratelabs/wazero"' "$bill"
done
echo "release-check: ok, $(ls "$work/first" | wc -l) files are the same"
