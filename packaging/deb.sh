#!/usr/bin/env bash
# Builds the Debian package of this tree: build/perdure_VERSION_ARCH.deb, whose path is the last line of the output, for
# the architecture that GOARCH says, this machine's by default. Needs Go, and its module proxy for nfpm.
#
#   OUT              directory for the package (default: build)
#   BUILDFLAGS       more flags for the go command (default: none)
#   NFPM             the packager, as module@version; "make deb" sets it
#   DEB_VERSION      version of the package (default: that of the binary, in Debian's form)
#   DEB_MAINTAINER   who stands for the package
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${NFPM:?set NFPM, or use \"make deb\"}"

stage=build/deb
rm -rf "$stage"
mkdir -p "$stage"/{completion,man,doc}

# Set before the build, so that two builds of one commit are the same.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

DEB_ARCH=$(go env GOARCH)
export DEB_ARCH CGO_ENABLED=0
# shellcheck disable=SC2086
go build -trimpath -ldflags=-s ${BUILDFLAGS:-} -o "$stage/perdure" .
# One that runs here says what belongs to it.
perdure=$stage/perdure
if [ "$DEB_ARCH" != "$(go env GOHOSTARCH)" ]; then
	perdure=$stage/perdure-here
	# shellcheck disable=SC2086
	GOARCH='' go build -trimpath -ldflags=-s ${BUILDFLAGS:-} -o "$perdure" .
fi
"$perdure" completion bash >"$stage/completion/perdure.bash"
"$perdure" completion zsh >"$stage/completion/_perdure"
"$perdure" completion fish >"$stage/completion/perdure.fish"
"$perdure" man "$stage/man"
gzip -9n "$stage"/man/*.1
cp README.md CHANGELOG.md "$stage/doc"
cp packaging/README.md "$stage/doc/README.Debian.md"
{
	echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
	printf '\nFiles: *\nCopyright: the Perdure authors\nLicense: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n'
} >"$stage/copyright"

# A pre-release of Go, v0.0.0-TIME-HASH+dirty, sorts before v0.0.0; in Debian that is what a tilde does.
version=$("$perdure" version --json | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p')
version=${version#v}
case $version in
[0-9]*) ;;
*) version=0.0.0-devel ;;
esac
version=${version/-/\~}
export DEB_VERSION="${DEB_VERSION:-${version//-/.}}"
export DEB_MAINTAINER="${DEB_MAINTAINER:-The Perdure maintainers <maintainers@perdure.invalid>}"

mkdir -p "${OUT:=build}"
deb="$OUT/perdure_${DEB_VERSION}_${DEB_ARCH}.deb"
# For this machine, whatever the package is for.
GOOS='' GOARCH='' go run "$NFPM" package --config packaging/nfpm.yaml --packager deb --target "$deb"
echo "$deb"
