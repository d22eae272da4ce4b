package wasm

import (
	"errors"
	"fmt"
)

var (
	// ErrNotWasm is returned by Decode for input that does not begin with the WebAssembly magic number.
	ErrNotWasm = errors.New("not a WebAssembly binary")

	// ErrComponent is returned by Decode for a component (WebAssembly component model, WASI preview 2),
	// which is another format behind the same magic number.
	ErrComponent = errors.New("a WebAssembly component, not a core module")
)

// A FormatError says where and how the input breaks the rules of the binary format.
type FormatError struct {
	Offset int    // of the offending byte: from Decode and Module.Validate in the module, from a Reader in the body
	What   string // what is wrong, in lower case
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("malformed WebAssembly at offset %d: %s", e.Offset, e.What)
}

// An UnsupportedError says that the input uses something that may be good WebAssembly but that is not part
// of the core specification 2.0, or that exceeds one of this package's limits.
type UnsupportedError struct {
	Feature string // the name of the proposal, such as "threads", or the limit that is exceeded
	Offset  int    // as in FormatError; -1 when there is no single place
}

func (e *UnsupportedError) Error() string {
	if e.Offset < 0 {
		return "unsupported WebAssembly feature: " + e.Feature
	}
	return fmt.Sprintf("unsupported WebAssembly feature at offset %d: %s", e.Offset, e.Feature)
}

// A ValidationError says that a module is well-formed but breaks a rule of validation, and where.
type ValidationError struct {
	Where  string // the part of the module, such as "global 3" or "function 12"
	Func   int    // index of the function whose body is wrong, or -1
	Pos    int    // offset of the instruction in Code.Body; meaningful when Func is not -1
	Offset int    // offset of the instruction in the module that was decoded; meaningful when Func is not -1
	What   string // what is wrong, in lower case
}

func (e *ValidationError) Error() string {
	if e.Func < 0 {
		return fmt.Sprintf("invalid WebAssembly: %s: %s", e.Where, e.What)
	}
	return fmt.Sprintf("invalid WebAssembly: %s, instruction at %d (offset %d): %s", e.Where, e.Pos, e.Offset, e.What)
}

// Names of what is refused; an operator finds them in an UnsupportedError.
const (
	featureThreads          = "threads"
	featureMemory64         = "memory64"
	featureMultiMemory      = "multiple memories"
	featureExceptions       = "exceptions"
	featureTailCalls        = "tail calls"
	featureGC               = "gc"
	featureFunctionRefs     = "typed function references"
	featureExtendedConst    = "extended constant expressions"
	featureRelaxedSIMD      = "relaxed simd"
	featureWideArithmetic   = "wide arithmetic"
	featureStackSwitching   = "stack switching"
	featureCustomPageSizes  = "custom page sizes"
	featureLongOpcodes      = "vector opcodes in more bytes than needed"
	featureBigModule        = "modules of more than 1 GiB"
	featureManyItems        = "sections with more than a million entries"
	featureDeepBlocks       = "blocks nested more than 65536 deep"
	featureManyParams       = "functions or blocks with more than 1000 parameters or results"
	featureManyLocals       = "functions with more than 50000 locals"
	featureManyStackEntries = "functions with more than 65536 values on the operand stack"
)

// Limits on what the format lets grow beyond the bytes that it takes. They are those that web browsers have
// agreed on, and nothing that a compiler produces comes near them.
const (
	MaxModuleSize   = 1 << 30   // bytes
	MaxItems        = 1_000_000 // in one section: types, imports, functions, globals, exports, segments …
	MaxBlockDepth   = 1 << 16   // open blocks in a function
	MaxParams       = 1000      // parameters of a function type, and as many results
	MaxLocals       = 50_000    // of one function, parameters not counted
	MaxOperandStack = 1 << 16   // values
	MaxMemoryPages  = 1 << 16   // wasm pages of 64 KiB
)
