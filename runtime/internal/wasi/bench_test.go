package wasi

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// benchHost returns a host with a file of some size at descriptor 4.
func benchHost(b *testing.B) (*Host, memory) {
	b.Helper()
	k, err := OS()
	if err != nil {
		b.Fatal(err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	h, err := New(Config{Args: []string{"bench"}, Preopens: []Preopen{{Host: b.TempDir(), Guest: "/"}},
		Stdio: &[3]Handle{Handle(null), Handle(null), Handle(null)}}, k)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		h.Close()
		unix.Close(null)
		if err := k.Release(); err != nil {
			b.Error(err)
		}
	})
	m := make(memory, 1<<20)
	copy(m[1000:], "file")
	benchCall(b, h, m, "path_open", rootFD, 0, 1000, 4, oflagCreate, uint64(readWrite), 0, 0, 992)
	m.putUint32(0, 4096)
	m.putUint32(4, 64)
	benchCall(b, h, m, "fd_pwrite", 4, 0, 1, 1<<16, 992)
	return h, m
}

func benchCall(b *testing.B, h *Host, m memory, name string, args ...uint64) {
	if e, err := h.Call(index(b, name), m, args); e != 0 || err != nil {
		b.Fatalf("%s: %v, %v", name, Errno(e), err)
	}
}

// BenchmarkCall measures calls that programs make often.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name string
		args []uint64
	}{
		{"clock_time_get", []uint64{1, 0, 992}},
		{"fd_pread", []uint64{4, 0, 1, 0, 992}},
		{"fd_pwrite", []uint64{4, 0, 1, 0, 992}},
		{"fd_write", []uint64{1, 0, 1, 992}},
		{"fd_read", []uint64{0, 0, 1, 992}},
		{"fd_filestat_get", []uint64{4, 512}},
		{"path_filestat_get", []uint64{rootFD, 0, 1000, 4, 512}},
		{"random_get", []uint64{4096, 64}},
		{"poll_oneoff", []uint64{2048, 3072, 1, 992}}, // a clock that is due
	} {
		b.Run(c.name, func(b *testing.B) {
			h, m := benchHost(b)
			i := index(b, c.name)
			b.ReportAllocs()
			for b.Loop() {
				if e, err := h.Call(i, m, c.args); e != 0 || err != nil {
					b.Fatal(Errno(e), err)
				}
			}
		})
	}
}

// BenchmarkSave measures what a cut costs, by the number of open files.
func BenchmarkSave(b *testing.B) {
	for _, files := range []int{1, 100} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			h, m := benchHost(b)
			for range files - 1 {
				benchCall(b, h, m, "path_open", rootFD, 0, 1000, 4, 0, uint64(readWrite), 0, 0, 992)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Save(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
