package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"perdure/internal/durable"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasi"
	"perdure/runtime/internal/wasm"
)

// maxProgram bounds the size of a program file, in bytes.
const maxProgram = 1 << 30

// readProgram reads a module file.
func readProgram(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoProgram, path)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case st.IsDir():
		return nil, &RefusedError{Program: path, Err: errors.New("is a directory")}
	case st.Size() > maxProgram:
		return nil, &RefusedError{Program: path, Err: fmt.Errorf("is larger than %d bytes", maxProgram)}
	}
	return os.ReadFile(path)
}

// sumOf identifies a program.
func sumOf(src []byte) string {
	s := sha256.Sum256(src)
	return hex.EncodeToString(s[:])
}

// wasiFuncs are the functions that guests may import.
//
// Of two functions with the same name for the importer, the module gets the one that has
// the type which it wants; the other one is then there under a name that nobody imports.
func wasiFuncs(m *wasm.Module) []engine.Func {
	var fs []engine.Func
	at := map[string]int{}
	for i, f := range wasi.Functions() {
		at[f.Name] = i
		fs = append(fs, engine.Func{Module: wasi.ModuleName, Name: f.Name, Params: f.Params, Results: f.Results})
		if f.Import == "" {
			continue
		}
		one := fs[i]
		one.Name = f.Import
		for j := range m.Imports {
			im := wasm.Module{Types: m.Types, Imports: m.Imports[j : j+1]}
			if m.Imports[j].Module == wasi.ModuleName && m.Imports[j].Name == f.Import && engine.Missing(&im, []engine.Func{one}) == nil {
				fs[at[f.Import]].Name += " of another type"
				fs[i] = one
				break
			}
		}
	}
	return fs
}

// decode reads the structure of a program and refuses what nobody provides. Function
// bodies are validated when they are instrumented.
func decode(name string, src []byte) (*wasm.Module, error) {
	m, err := wasm.Decode(src)
	if err == nil {
		err = engine.Missing(m, wasiFuncs(m))
	}
	if err != nil {
		return nil, &RefusedError{Program: name, Err: err}
	}
	return m, nil
}

// entry finds the function at which a command begins.
func entry(m *wasm.Module) (uint32, error) {
	for i := range m.Exports {
		if e := &m.Exports[i]; e.Name == "_start" && e.Kind == wasm.ExternFunc {
			if t, err := m.FuncType(e.Index); err == nil && len(t.Params)+len(t.Results) == 0 {
				return e.Index, nil
			}
			return 0, errors.New("its _start function takes parameters or returns results")
		}
	}
	return 0, errors.New("it has no _start function")
}

// hotMagic starts a file of the code cache: magic, SHA-256 of the rest, length of the
// encoded Meta, Meta, hot code.
const hotMagic = "perdure-hot\x00\x00\x00\x00\x01"

// load makes the program's code, or finds it in the cache.
func load(ctx context.Context, e *engine.Engine, m *wasm.Module, sum, cacheDir, name string, everyLoop bool, events func(Event)) (*engine.Program, error) {
	path := ""
	if cacheDir != "" {
		path = filepath.Join(cacheDir, fmt.Sprintf("%s-v%d.hot", sum, instrument.Version))
		if hot, meta := readHot(path); meta != nil && meta.EveryLoop == everyLoop && meta.Bind(m) == nil {
			return e.LoadInstrumented(ctx, hot, meta)
		}
	}
	if err := m.Validate(); err != nil {
		return nil, &RefusedError{Program: name, Err: err}
	}
	events(ProgressEvent{What: "instrumenting", Total: len(m.Codes)})
	hot, meta, err := instrument.Instrument(m, instrument.Options{EveryLoop: everyLoop, Progress: func(done, total int) {
		events(ProgressEvent{What: "instrumenting", Done: done, Total: total})
	}})
	if err != nil {
		return nil, &RefusedError{Program: name, Err: err}
	}
	events(ProgressEvent{What: "compiling"})
	p, err := e.LoadInstrumented(ctx, hot, meta)
	if err != nil {
		return nil, &RefusedError{Program: name, Err: err}
	}
	if path != "" {
		if err := writeHot(path, hot, meta); err != nil {
			events(WarningEvent{fmt.Sprintf("instrumented code was not cached: %v", err)})
		}
	}
	return p, nil
}

// readHot reads a file of the code cache. What is not whole counts as missing.
func readHot(path string) ([]byte, *instrument.Meta) {
	b, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(b, []byte(hotMagic)) || len(b) < len(hotMagic)+sha256.Size+8 {
		return nil, nil
	}
	b = b[len(hotMagic):]
	sum, b := b[:sha256.Size], b[sha256.Size:]
	if s := sha256.Sum256(b); !bytes.Equal(s[:], sum) {
		return nil, nil
	}
	n := binary.LittleEndian.Uint64(b)
	b = b[8:]
	if n > uint64(len(b)) {
		return nil, nil
	}
	meta := &instrument.Meta{}
	if gob.NewDecoder(bytes.NewReader(b[:n])).Decode(meta) != nil {
		return nil, nil
	}
	return b[n:], meta
}

func writeHot(path string, hot []byte, meta *instrument.Meta) error {
	var mb bytes.Buffer
	if err := gob.NewEncoder(&mb).Encode(meta); err != nil {
		return err
	}
	rest := binary.LittleEndian.AppendUint64(nil, uint64(mb.Len()))
	rest = append(append(rest, mb.Bytes()...), hot...)
	s := sha256.Sum256(rest)
	out := append(append([]byte(hotMagic), s[:]...), rest...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Several workers may start the same program at once: each writes a file of its own.
	own := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := durable.WriteFile(durable.OS, own, out, 0o600); err != nil {
		return err
	}
	return os.Rename(own, path)
}

// newEngine makes an engine for one program, whose machine code is cached below cacheDir.
func newEngine(ctx context.Context, cacheDir, sum string, memoryLimit uint64, events func(Event)) (*engine.Engine, *machineCache) {
	cfg := engine.Config{MemoryLimitPages: uint32(memoryLimit / wasmPageSize)}
	if cacheDir == "" {
		return engine.New(ctx, cfg), nil
	}
	cache, err := openMachineCache(filepath.Join(cacheDir, "machine", sum))
	if err != nil {
		events(WarningEvent{fmt.Sprintf("machine code is not cached: %v", err)})
		return engine.New(ctx, cfg), nil
	}
	cfg.Cache = cache.CompilationCache
	return engine.New(ctx, cfg), cache
}

const wasmPageSize = 65536
