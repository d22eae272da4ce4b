#!/usr/bin/env bash
# Builds a release of this commit into a directory, which it makes anew: for linux/amd64 and linux/arm64 a static binary in
# a tar archive, with manual and completion, and a Debian package; a bill of materials of each binary; SHA256SUMS. The same
# commit and the same Go give the same bytes, wherever it lies. Needs Go, its module proxy for the two tools, and GNU tar.
#
#   bash packaging/release.sh DIR
#
#   NFPM, CYCLONEDX   the packager and what lists the modules, as module@version; "make release" sets them
#   BUILDFLAGS        more flags for the go command (default: none)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${NFPM:?set NFPM, or use \"make release\"}" "${CYCLONEDX:?set CYCLONEDX, or use \"make release\"}"
out=$(realpath -m "${1:?usage: release.sh DIR}")

if [ -n "$(git status --porcelain)" ]; then
	echo 'release.sh: the tree has changes; a release is of a commit' >&2
	exit 1
fi
rm -rf "$out"
mkdir -p "$out"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
# The commit is in the binary, whatever the environment says.
export BUILDFLAGS="-buildvcs=true ${BUILDFLAGS:-}"
umask 022

for arch in amd64 arm64; do
	OUT=$out GOOS=linux GOARCH=$arch bash packaging/deb.sh
	# The package's stage has all that the archive wants.
	deb=$(basename "$out"/perdure_*_"$arch".deb)
	name=${deb%_"$arch".deb}
	name=${name/_/-}-linux-$arch
	stage=build/archive/$name
	rm -rf build/archive
	mkdir -p "$stage"
	cp build/deb/perdure LICENSE README.md CHANGELOG.md config/perdure.toml "$stage"
	cp -r build/deb/man build/deb/completion "$stage"
	tar -C build/archive --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' -cf - "$name" |
		gzip -9n >"$out/$name.tar.gz"
	GOOS='' GOARCH='' go run "$CYCLONEDX" bin -json -std -noserial -output "$out/$name.cdx.json" build/deb/perdure
	# It notes when it was made; here that is when the commit was.
	sed -i -E "s/(\"timestamp\": )\"[^\"]*\"/\1\"$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)\"/" "$out/$name.cdx.json"
done
cd "$out"
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
