package main

import (
	"errors"
	"strconv"
	"strings"

	"perdure/config"
	"perdure/runtime"
)

// parseDir parses a directory of the guest as the configuration does.
func parseDir(s string) (runtime.Preopen, error) {
	d, err := config.ParseDir(s)
	return runtime.Preopen(d), err
}

// parseListener parses a listening socket as the configuration does.
func parseListener(s string) (runtime.Listener, error) {
	l, err := config.ParseListen(s)
	return runtime.Listener(l), err
}

// parseAllow parses addresses that a guest may use as the configuration does.
func parseAllow(s string) (runtime.SocketRule, error) {
	a, err := config.ParseAllow(s)
	return runtime.SocketRule(a), err
}

// units of memory, in bytes, longest first.
var memoryUnits = []struct {
	suffix string
	bytes  uint64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1}, {"", 1},
}

const (
	wasmPage  = 64 << 10 // bytes
	maxMemory = 4 << 30  // of a 32-bit memory, in bytes
)

// parseMemory parses a size of memory, in bytes.
func parseMemory(s string) (uint64, error) {
	for _, u := range memoryUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			break
		}
		n *= float64(u.bytes)
		switch {
		case !(n >= wasmPage):
			return 0, errors.New("is less than one wasm page of 64KiB")
		case n > maxMemory:
			return 0, errors.New("is more than the 4GiB that a program can address")
		}
		return uint64(n), nil
	}
	return 0, errors.New("is no size; write it like 64MiB or 1GiB")
}

// shellQuote joins words to a line that a shell splits into the same words.
func shellQuote(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsFunc(w, needsQuotes) {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

func needsQuotes(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-+=./:,@%", r))
}
