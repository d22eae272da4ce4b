package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"perdure/runtime"
)

// parseDir parses HOST[:GUEST[:ro]]. Without GUEST the guest sees the host's name.
func parseDir(s string) (runtime.Preopen, error) {
	parts := strings.Split(s, ":")
	d := runtime.Preopen{Host: parts[0], Guest: parts[0]}
	if len(parts) > 1 && parts[1] != "" {
		d.Guest = parts[1]
	}
	switch {
	case d.Host == "":
		return d, errors.New("the directory is missing; write HOST[:GUEST[:ro]]")
	case len(parts) == 2 && (parts[1] == "ro" || parts[1] == "rw"):
		return d, fmt.Errorf("is %q a directory of the guest? write HOST:GUEST:ro, or HOST:/%s", parts[1], parts[1])
	case len(parts) == 3 && parts[2] == "ro":
		d.ReadOnly = true
	case len(parts) > 2:
		return d, fmt.Errorf("%q is not understood; write HOST[:GUEST[:ro]]", strings.Join(parts[2:], ":"))
	}
	return d, nil
}

// parseListener parses tcp://HOST:PORT, tcp4 and tcp6 alike, and unix:///PATH.
func parseListener(s string) (runtime.Listener, error) {
	network, address, ok := strings.Cut(s, "://")
	l := runtime.Listener{Network: network, Address: address}
	if !ok {
		return l, errors.New("write tcp://HOST:PORT or unix:///PATH")
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return l, fmt.Errorf("write %s://HOST:PORT: %w", network, err)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return l, fmt.Errorf("%q is no port number", port)
		}
	case "unix":
		if address == "" {
			return l, errors.New("the path is missing; write unix:///PATH")
		}
	default:
		return l, fmt.Errorf("%q is no network; there are tcp, tcp4, tcp6 and unix", network)
	}
	return l, nil
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
