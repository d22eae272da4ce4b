package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"perdure/runtime/internal/wasm"
)

// initializeName is the function of a reactor that is called once, before all others.
const initializeName = "_initialize"

// exported returns the export of that name.
func exported(m *wasm.Module, name string) *wasm.Export {
	for i := range m.Exports {
		if e := &m.Exports[i]; e.Name == name {
			return e
		}
	}
	return nil
}

// kindOf tells a command from a reactor.
func kindOf(m *wasm.Module) ProgramKind {
	if e := exported(m, "_start"); e != nil && e.Kind == wasm.ExternFunc {
		return KindCommand
	}
	return KindReactor
}

// checkEntry tells why a program cannot be begun: as a command, or as a reactor where those
// are taken.
func checkEntry(m *wasm.Module, commandOnly bool) error {
	if kindOf(m) == KindCommand {
		_, err := entry(m)
		return err
	}
	if _, _, err := initializer(m); err != nil {
		return err
	}
	switch list := callables(m); {
	case len(list) == 0:
		return errors.New("it has no _start function and none to be called")
	case commandOnly:
		return fmt.Errorf("it has no _start function: it is a library of functions to call (a reactor). Give it to the daemon "+
			"(perdure serve), and call it with: perdure call NAME %s", list[0].name)
	}
	return nil
}

// initializer finds the function with which a reactor begins, if it has one.
func initializer(m *wasm.Module) (index uint32, ok bool, err error) {
	e := exported(m, initializeName)
	if e == nil {
		return 0, false, nil
	}
	if e.Kind == wasm.ExternFunc && int(e.Index) >= m.NumImportedFuncs() {
		if t, err := m.FuncType(e.Index); err == nil && len(t.Params)+len(t.Results) == 0 {
			return e.Index, true, nil
		}
	}
	return 0, false, fmt.Errorf("its %s is not a function without parameters and results", initializeName)
}

// callable is a function of a reactor that can be called.
type callable struct {
	name            string
	index           uint32
	params, results []wasm.ValType
}

func (c *callable) String() string {
	s := plain(c.name) + typeList(c.params)
	switch len(c.results) {
	case 0:
		return s
	case 1:
		return s + " -> " + c.results[0].String()
	}
	return s + " -> " + typeList(c.results)
}

// plain returns a name of the module so that it does no harm on a terminal.
func plain(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` || name == "" {
		return q
	}
	return name
}

func typeList(types []wasm.ValType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.String()
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// callables lists what can be called of a reactor, in the module's order.
func callables(m *wasm.Module) []callable {
	var list []callable
	for i := range m.Exports {
		if c, err := callableOf(m, &m.Exports[i]); err == nil {
			list = append(list, *c)
		}
	}
	return list
}

// NoExportError says that a reactor has no function of that name to be called.
type NoExportError struct {
	Export string
	Why    string   // what it is instead; empty if there is nothing of that name
	Near   []string // names that may have been meant
}

func (e *NoExportError) Error() string {
	s := fmt.Sprintf("no function %q to call", e.Export)
	if e.Why != "" {
		s = fmt.Sprintf("%q cannot be called: it %s", e.Export, e.Why)
	}
	if len(e.Near) > 0 {
		s += "; there is " + strings.Join(e.Near, ", ")
	}
	return s
}

// ArgumentError says that arguments do not fit the function.
type ArgumentError struct {
	Export string
	Why    string
}

func (e *ArgumentError) Error() string { return plain(e.Export) + ": " + e.Why }

// findCallable returns the function of that name, or a *NoExportError or *ArgumentError.
func findCallable(m *wasm.Module, name string) (*callable, error) {
	if e := exported(m, name); e != nil {
		return callableOf(m, e)
	}
	return nil, &NoExportError{Export: name, Near: near(m, name)}
}

func callableOf(m *wasm.Module, e *wasm.Export) (*callable, error) {
	why := ""
	switch {
	case e.Kind != wasm.ExternFunc:
		why = fmt.Sprintf("is a %v", e.Kind)
	case e.Name == initializeName:
		why = "is called once, at the beginning, and has been"
	case int(e.Index) < m.NumImportedFuncs():
		why = "is a function of the host"
	}
	if why != "" {
		return nil, &NoExportError{Export: e.Name, Why: why}
	}
	t, err := m.FuncType(e.Index)
	if err != nil {
		return nil, err
	}
	for _, v := range t.Params {
		if !v.IsNum() {
			return nil, &ArgumentError{Export: e.Name, Why: fmt.Sprintf("it takes a %v, which cannot be given as text", v)}
		}
	}
	for _, v := range t.Results {
		if !v.IsNum() {
			return nil, &ArgumentError{Export: e.Name, Why: fmt.Sprintf("it returns a %v, which cannot be given as text", v)}
		}
	}
	return &callable{e.Name, e.Index, t.Params, t.Results}, nil
}

// maxNear is how many names an error proposes, and maxNearName how long a name may be to be
// looked at for that.
const maxNear, maxNearName = 8, 64

// near returns names of callable functions that are like name; all, if there are few.
func near(m *wasm.Module, name string) []string {
	var all, like []string
	for _, c := range callables(m) {
		all = append(all, plain(c.name))
		if len(name) <= maxNearName && len(c.name) <= maxNearName &&
			(distance(name, c.name) <= 1+len(name)/4 || name != "" && strings.Contains(c.name, name)) {
			like = append(like, plain(c.name))
		}
	}
	if len(like) == 0 && len(all) <= maxNear {
		like = all
	}
	return like[:min(len(like), maxNear)]
}

// distance is how many bytes have to be put in, taken out or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// arguments reads the arguments of a call.
func (c *callable) arguments(args []string) ([]uint64, error) {
	if len(args) != len(c.params) {
		return nil, &ArgumentError{c.name, fmt.Sprintf("it takes %s, not %d: %v", countOf(len(c.params), "argument"), len(args), c)}
	}
	out := make([]uint64, len(args))
	for i, a := range args {
		v, err := parseValue(c.params[i], a)
		if err != nil {
			return nil, &ArgumentError{c.name, fmt.Sprintf("argument %d: %v", i+1, err)}
		}
		out[i] = v
	}
	return out, nil
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// values writes the results of a call.
func (c *callable) values(words []uint64) []Value {
	out := make([]Value, len(c.results))
	for i, t := range c.results {
		out[i] = Value{Type: t.String(), Value: formatValue(t, words[i])}
	}
	return out
}
