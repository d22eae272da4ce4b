package wasi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// tameKernel keeps a fuzzed guest from filling the disk and from waiting for it.
type tameKernel struct{ Kernel }

func (k tameKernel) Allocate(h Handle, offset, length int64) Errno {
	if offset > 1<<20 || length > 1<<20 {
		return ENOSPC
	}
	return k.Kernel.Allocate(h, offset, length)
}

func (k tameKernel) Write(h Handle, bufs [][]byte, offset int64, flags WriteFlags) (int, int64, Errno) {
	return k.Kernel.Write(h, bufs, offset, flags&^(WriteSync|WriteDsync))
}

func (k tameKernel) Sync(Handle, bool) Errno { return ESUCCESS }

// FuzzCall makes calls with arbitrary arguments on arbitrary memory: two bytes
// choose the function and how its arguments are made. Nothing may panic, nothing
// outside of the memory may change, and what Save returns can be restored.
func FuzzCall(f *testing.F) {
	for i := range Functions() {
		f.Add([]byte{byte(i), 0, byte(i), 1, byte(i), 2, byte(i), 3}, []byte("d/f\x00link\x03\x00\x00\x00\x08\x00\x00\x00\x10\x00\x00\x00"))
	}
	f.Add([]byte{31, 9, 20, 9, 26, 9, 8, 9, 22, 9, 31, 7, 21, 7}, bytes.Repeat([]byte("f"), 64))
	system, err := OS()
	if err != nil {
		f.Fatal(err)
	}
	defer system.Release()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer unix.Close(null)
	f.Fuzz(func(t *testing.T, program, content []byte) {
		const guard, size = 64, 4096
		backing := bytes.Repeat([]byte{0xa5}, guard+size+guard)
		mem := backing[guard : guard+size : guard+size]
		for i := range mem {
			mem[i] = 0
		}
		copy(mem, content)
		dir := t.TempDir()
		cfg := Config{
			Args: []string{"prog"}, Env: []string{"A=b"}, Preopens: []Preopen{{Host: dir, Guest: "/"}, {Host: dir, Guest: "/ro", ReadOnly: true}},
			Stdio: &[3]Handle{Handle(null), Handle(null), Handle(null)}, Limits: Limits{Descriptors: 32},
		}
		k := tameKernel{system}
		h, err := New(cfg, k)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { h.Close() }()
		h.Interrupt()
		for i := 0; i+1 < len(program) && i < 200; i += 2 {
			index := int(program[i]) % len(functions)
			args := fuzzArgs(&functions[index], program[i+1:], mem)
			if functions[index].Name == "proc_exit" || functions[index].Name == "proc_raise" {
				args[0] = 0x100 // an unknown signal; and the end is no fun
				if functions[index].Name == "proc_exit" {
					continue
				}
			}
			before := len(h.table)
			_, err := h.Call(index, mem, args)
			if err != nil && !errors.Is(err, ErrInterrupted) {
				t.Fatalf("%s%v: %v", functions[index].Name, args, err)
			}
			if len(h.table) > 32 || len(h.table) > before+1 {
				t.Fatalf("%s%v: the table has %d entries", functions[index].Name, args, len(h.table))
			}
		}
		for i := range guard {
			if backing[i] != 0xa5 || backing[guard+size+i] != 0xa5 {
				t.Fatal("memory outside of the guest's was written to")
			}
		}
		state, err := h.Save()
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		if h, _, err = Restore(state, cfg, k); err != nil {
			t.Fatalf("%v\n%s", err, state)
		}
	})
}

// fuzzArgs makes the arguments of a function from seed: each is a small number,
// a place in memory, what stands there, or an extreme.
func fuzzArgs(f *function, seed []byte, mem []byte) []uint64 {
	x := uint64(14695981039346656037)
	for _, b := range seed[:min(len(seed), 8)] {
		x = (x ^ uint64(b)) * 1099511628211
	}
	args := make([]uint64, len(f.Params))
	for i := range args {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		v := x >> 8
		switch x % 8 {
		case 0, 1:
			args[i] = v % 8
		case 2:
			args[i] = v % uint64(len(mem))
		case 3:
			args[i] = uint64(binary.LittleEndian.Uint32(mem[v%uint64(len(mem)-4):]))
		case 4:
			args[i] = binary.LittleEndian.Uint64(mem[v%uint64(len(mem)-8):])
		case 5:
			args[i] = uint64(len(mem)) - v%64
		case 6:
			args[i] = 1<<(v%64) - v%2
		case 7:
			args[i] = v % 64
		}
		if seed[0]%16 > 8 && i == 0 {
			args[i] = uint64(seed[0]) % 8 // a descriptor, so that more calls get further
		}
	}
	return args
}

// FuzzRestore restores from arbitrary bytes. Nothing may panic; what can be
// restored can be saved and restored again, to the same.
func FuzzRestore(f *testing.F) {
	if b, err := encodeState(fullState()); err == nil {
		f.Add(b)
	}
	f.Add([]byte(`{"version":1,"args":["a"],"env":[],"preopens":[{"guest":"/","dev":1,"ino":1}],"descriptors":[{"fd":3,"kind":"file","source":0,"preopened":true,"path":".","read":true,"flags":0,"base":1073741823,"inheriting":1073741823,"type":3,"offset":0,"dev":0,"ino":0}],"clocks":{"monotonic":5,"cpu":6}}`))
	f.Add([]byte(`{"version":1,"descriptors":[{"fd":1048575,"kind":"standard","source":1}],"pending":{"function":"fd_read","args":[0,0,0,0],"issued":0,"deadline":-1}}`))
	system, err := OS()
	if err != nil {
		f.Fatal(err)
	}
	defer system.Release()
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := Config{Preopens: []Preopen{{Host: ".", Guest: "/", ReadOnly: true}}, Stdio: &[3]Handle{NoHandle, NoHandle, NoHandle}}
		h, _, err := Restore(b, cfg, system)
		if err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("%v, which is not ErrState", err)
			}
			return
		}
		defer func() { h.Close() }()
		h.Interrupt()
		mem := make([]byte, 4096)
		if _, ok := h.Pending(); ok {
			_, _ = h.Resume(mem) // any result will do
		}
		for i, fn := range functions {
			if fn.Name != "proc_exit" && fn.Name != "proc_raise" {
				_, _ = h.Call(i, mem, make([]uint64, len(fn.Params))) // any result will do
			}
		}
		first, err := h.Save()
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		if h, _, err = Restore(first, cfg, system); err != nil {
			t.Fatalf("%v\n%s", err, first)
		}
	})
}
