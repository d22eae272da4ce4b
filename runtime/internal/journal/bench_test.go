package journal

import (
	"os"
	"path/filepath"
	"testing"

	"perdure/runtime/internal/wasi"
)

// BenchmarkCall compares calls of the outside with and without a journal, and with their replay.
func BenchmarkCall(b *testing.B) {
	calls := []struct {
		name string
		call func(k wasi.Kernel, h wasi.Handle, p [][]byte)
	}{
		{"now", func(k wasi.Kernel, _ wasi.Handle, _ [][]byte) { k.Now(wasi.ClockMonotonic) }},
		{"stat", func(k wasi.Kernel, h wasi.Handle, _ [][]byte) { k.Stat(h) }},
		{"read 1 KiB", func(k wasi.Kernel, h wasi.Handle, p [][]byte) { k.Read(h, p, 0) }},
		{"write 1 KiB", func(k wasi.Kernel, h wasi.Handle, p [][]byte) { k.Write(h, p, 0, 0) }},
		{"append 1 KiB", func(k wasi.Kernel, h wasi.Handle, p [][]byte) { k.Write(h, p, 0, wasi.WriteAppend) }},
	}
	for _, c := range calls {
		file, err := os.OpenFile(filepath.Join(b.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		h, p := wasi.Handle(file.Fd()), [][]byte{make([]byte, 1024)}
		if _, err := file.Write(p[0]); err != nil {
			b.Fatal(err)
		}
		system, err := wasi.OS()
		if err != nil {
			b.Fatal(err)
		}
		defer system.Release()
		b.Run(c.name+"/plain", func(b *testing.B) {
			for b.Loop() {
				c.call(system, h, p)
			}
		})
		dir := filepath.Join(b.TempDir(), "journal")
		const each = 20000 // so that a segment holds them
		open := func() *Journal {
			j, err := New(Options{Dir: dir, Kernel: system})
			if err != nil {
				b.Fatal(err)
			}
			return j
		}
		b.Run(c.name+"/recorded", func(b *testing.B) {
			var j *Journal
			b.ReportAllocs()
			for i := 0; i < b.N; i++ {
				if i%each == 0 {
					b.StopTimer()
					if j != nil {
						j.Release()
					}
					j = open()
					if err := j.Begin(nil); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
				c.call(j, h, p)
			}
			j.Release()
		})
		b.Run(c.name+"/played", func(b *testing.B) {
			j := open()
			if err := j.Begin(nil); err != nil {
				b.Fatal(err)
			}
			for range each {
				c.call(j, h, p)
			}
			j.Release()
			_, at, ok := Birth(dir)
			if !ok {
				b.Fatal("no birth")
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i++ {
				if i%each == 0 {
					b.StopTimer()
					j.Release()
					j = open()
					b.StartTimer() // to check it is a part of it
					if err := j.Continue(at, func(flaw error) error { return flaw }); err != nil {
						b.Fatal(err)
					}
				}
				c.call(j, h, p)
			}
			j.Release()
		})
	}
}
