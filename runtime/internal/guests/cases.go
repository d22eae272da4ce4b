package guests

import (
	"path/filepath"
	"testing"
)

// Case is one run of a guest, whose output does not depend on time, chance or
// the host: the uninterrupted side of a comparison with an interrupted run.
type Case struct {
	// Name is unique among the cases, and the name of the file of expected
	// output.
	Name string
	// Guest is the prebuilt module or, where Go is true, the directory below
	// testdata/guests/go.
	Guest string
	Go    bool
	// Args are the arguments after the program's name for a run of a few
	// hundredths of a second; Long are those for about a second, nil where the
	// guest has no measure of work.
	Args, Long []string
	Stdin      string
	// Files says that the guest wants an empty, writable directory at "/"; what
	// it leaves there belongs to the result.
	Files bool
	// Again says that a guest whose files and input are as a later moment left them still
	// gives the same output and files when it goes on from an earlier one. The
	// others append, rename and remove.
	Again bool
	// ExitCode is the status the guest ends with. Trap, where not empty, is a
	// part of the engine's error instead.
	ExitCode uint32
	Trap     string
}

// rounds is a case of a guest that takes [SIZE [FILE]] and writes its output to
// both.
func rounds(guest, short, long string) Case {
	return Case{Name: guest, Guest: guest, Args: []string{short, "/copy"}, Long: []string{long, "/copy"}, Files: true, Again: true}
}

func golang(dir, short, long string) Case {
	return Case{Name: "go-" + dir, Guest: dir, Go: true, Args: []string{short}, Long: []string{long}, Again: true}
}

// Cases returns every case. The Go ones have no file of expected output, since
// what packages like compress/flate make may change with the Go version.
func Cases() []Case {
	return []Case{
		rounds("ackermann", "5", "200"),
		rounds("queens", "10", "700"),
		rounds("tree", "10", "900"),
		rounds("matrix", "10", "600"),
		rounds("hash", "4", "250"),
		rounds("sieve", "5", "170"),
		rounds("primes", "40", "900"),
		rounds("interp", "5", "240"),
		rounds("sort", "4", "80"),
		rounds("list", "8", "330"),
		rounds("strings", "4", "900"),
		rounds("machine", "20", "900"),
		rounds("float", "15", "1000"),
		rounds("int64", "20", "1000"),
		rounds("grow", "12", "100"),
		rounds("dirty", "10", "900"),
		rounds("simd", "30", "2000"),
		rounds("rust-collections", "8", "600"),
		{Name: "files", Guest: "files", Args: []string{"60"}, Long: []string{"1500"}, Files: true},
		{Name: "rust-files", Guest: "rust-files", Args: []string{"20"}, Long: []string{"1000"}, Files: true},
		{Name: "zigcc-files", Guest: "zigcc-files", Args: []string{"60"}, Long: []string{"1500"}, Files: true},
		rounds("zigcc-strings", "4", "60"),
		{Name: "zig-generic", Guest: "zig-generic", Args: []string{"20"}, Long: []string{"2500"}, Again: true},
		{Name: "as-work", Guest: "as-work", Args: []string{"20"}, Long: []string{"800"}, Again: true},
		{Name: "sqlite-idx", Guest: "sqlite", Args: []string{"idx", "2"}, Long: []string{"idx", "70"}, Again: true},
		{Name: "sqlite-sort", Guest: "sqlite", Args: []string{"sort", "1"}, Long: []string{"sort", "30"}, Again: true},
		{Name: "sqlite-agg", Guest: "sqlite", Args: []string{"agg", "2"}, Long: []string{"agg", "60"}, Again: true},
		{Name: "sqlite-file", Guest: "sqlite", Args: []string{"idx", "2", "/t.db"}, Long: []string{"all", "10", "/t.db"}, Files: true},
		{Name: "kernels", Guest: "kernels", Args: []string{"all", "1"}, Long: []string{"all", "4"}, Again: true},
		{Name: "counter", Guest: "counter", Args: []string{"1", "10", "/copy"}, Long: []string{"10", "100", "/copy"}, Files: true, Again: true},
		{Name: "tally", Guest: "tally", Args: []string{"1000", "/copy", "20"}, Long: []string{"20000000", "/copy", "40"}, Files: true, Again: true},
		{Name: "echo", Guest: "echo", Stdin: "one\ntwo\n\nlast"},
		{Name: "commands", Guest: "commands", Stdin: "open 1 rwct /a\nwrite 1 hello world\nseek 1 6\nopen 2 a /a\nwrite 2 , again\nread 1 100\n" +
			"tell 1\nrename /a /b\nsize 1\nopen 3 r /none\nopendir /\nreaddir\nclosedir\nfill 1\nfill 1\nunlink /none\nclose 1\nread 1 1\nexit 5\n", Files: true, ExitCode: 5},
		{Name: "exitcode", Guest: "exitcode", Args: []string{"7"}, ExitCode: 7, Again: true},
		{Name: "environment", Guest: "environment", Args: []string{"a", "b c"}, Again: true},
		{Name: "trap-unreachable", Guest: "trap", Args: []string{"unreachable"}, Trap: "unreachable", Again: true},
		{Name: "trap-divide", Guest: "trap", Args: []string{"divide"}, Trap: "integer divide by zero", Again: true},
		{Name: "trap-overflow", Guest: "trap", Args: []string{"overflow"}, Trap: "integer overflow", Again: true},
		{Name: "trap-bounds", Guest: "trap", Args: []string{"bounds"}, Trap: "out of bounds memory access", Again: true},
		{Name: "trap-indirect", Guest: "trap", Args: []string{"indirect"}, Trap: "indirect call type mismatch", Again: true},
		{Name: "trap-null", Guest: "trap", Args: []string{"null"}, Trap: "invalid table access", Again: true},
		{Name: "stackoverflow", Guest: "stackoverflow", Trap: "stack overflow", Again: true},

		golang("sort", "2", "30"),
		golang("flate", "2", "25"),
		golang("jsonwork", "1", "35"),
		golang("maps", "2", "25"),
		golang("goroutines", "3", "80"),
		{Name: "go-counter", Guest: "counter", Go: true, Args: []string{"1", "10"}, Long: []string{"10", "100"}, Again: true},
	}
}

// Path returns where the module of the case is, after building it where need be.
func (c Case) Path(t testing.TB) string {
	t.Helper()
	if c.Go {
		return BuildGo(t, c.Guest)
	}
	return Path(t, c.Guest)
}

// Bytes returns the module of the case.
func (c Case) Bytes(t testing.TB) []byte {
	t.Helper()
	return read(t, c.Path(t))
}

// HasGolden says whether there is a file of expected output for Args.
func (c Case) HasGolden() bool { return !c.Go }

// Golden returns what the guest prints to stdout when run with Args.
func (c Case) Golden(t testing.TB) []byte {
	t.Helper()
	return read(t, c.goldenPath(t))
}

func (c Case) goldenPath(t testing.TB) string {
	return filepath.Join(Root(t), "golden", c.Name+".txt")
}

// Kernel is one of the workloads that a guest exports as bench_NAME, a function
// from an i32, how often to repeat it, to an i64 checksum. It may be called on an
// instance whose _start never ran.
type Kernel struct {
	Guest, Name string
	// Reps takes about a tenth of a second on stock wazero.
	Reps uint32
}

// Export returns the name under which the guest exports the kernel.
func (k Kernel) Export() string { return "bench_" + k.Name }

// Kernels returns the kernels for measurements of speed, C first, SQLite last.
func Kernels() []Kernel {
	return []Kernel{
		{"kernels", "fib", 12},
		{"kernels", "nqueens", 90},
		{"kernels", "gemm", 20},
		{"kernels", "sha256", 3},
		{"kernels", "sieve", 17},
		{"kernels", "interp", 1},
		{"kernels", "qsort", 3},
		{"kernels", "tree", 12},
		{"kernels", "calls", 5},
		{"kernels", "crc", 5},
		{"kernels", "strs", 50},
		{"kernels", "list", 22},
		{"sqlite", "idx", 7},
		{"sqlite", "sort", 3},
		{"sqlite", "agg", 6},
	}
}
