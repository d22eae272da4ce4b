package spectest

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// machine executes the modules of one script. It is used by one goroutine.
type machine interface {
	// load decodes, validates and compiles a module. It instantiates nothing.
	load(ctx context.Context, wasm []byte) (program, error)
	// host loads and instantiates a module which stands for the embedder: it runs on plain wazero on every machine.
	host(ctx context.Context, wasm []byte) (instance, error)
	// version2 says that the machine follows version 2 of the specification also where version 1 differs.
	version2() bool
	// close frees everything that the machine made.
	close(ctx context.Context) error
}

// program is a loaded module.
type program interface {
	// instantiate links the module, initialises it and runs its start function.
	instantiate(ctx context.Context, l linkage) (instance, error)
}

// linkage is what an instance has to do with others.
type linkage struct {
	// resolve finds an instance by the name that it was registered with, nil if there is none.
	resolve func(module string) instance
	// shared says that the script registers the instance later on, so that others may link to what it exports.
	shared bool
}

// instance is an instantiated module.
type instance interface {
	// call invokes an exported function. Arguments and results are the engine's stack words.
	call(ctx context.Context, export string, args []uint64) ([]uint64, error)
	// global returns the stack words of an exported global.
	global(name string) ([]uint64, error)
	// linked returns the module of the engine from which other instances import.
	linked() api.Module
}
