package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// When says from when on a new value of a setting counts.
type When int

// The times from which on a new value counts.
const (
	// Now: at once, without touching a running guest. These are the settings of Reloadable and ReloadableProcess.
	Now When = iota
	// NextStart: for a process that runs, when it is started again; it need not be lost.
	NextStart
	// Anew: for a process that exists, when its program starts from the beginning.
	Anew
	// NextServe: when the daemon is started again.
	NextServe
)

// String returns the time as it follows "counts".
func (w When) String() string {
	switch w {
	case Now:
		return "now"
	case NextStart:
		return "when the process is started again"
	case Anew:
		return "when the program starts anew"
	case NextServe:
		return "when the daemon is started again"
	}
	return "When(" + strconv.Itoa(int(w)) + ")"
}

// whenOf reads the tag of a field.
func whenOf(apply string) When {
	switch apply {
	case "now":
		return Now
	case "start":
		return NextStart
	case "fresh":
		return Anew
	case "daemon":
		return NextServe
	}
	panic("config: a field says " + strconv.Quote(apply) + " for when it counts")
}

// Change is a setting that differs between two configurations.
type Change struct {
	// Key is its path, as in KeyError.
	Key string
	// Old and New are its values as they are written in a file. Those of secrets, and of variables of the environment, which
	// may be some, are not told: "(set)", or empty for none.
	Old, New string
	// When says from when on New counts.
	When When
}

// String returns the change in one line.
func (c Change) String() string {
	return fmt.Sprintf("%s: %s → %s, counts %v", c.Key, c.Old, c.New, c.When)
}

// Diff returns what differs between two configurations, in the order of the schema, then of the processes by name. A
// default that a process inherits is listed once, with the defaults.
func Diff(before, after Config) []Change {
	changes := diff(nil, "", reflect.ValueOf(before), reflect.ValueOf(after))
	inherited := changes
	names := slices.Concat(before.Names(), after.Names())
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		for _, c := range DiffProcess(before.Process(name), after.Process(name)) {
			if !slices.ContainsFunc(inherited, func(i Change) bool { return defaultKey(c.Key) == i.Key && c.Old == i.Old && c.New == i.New }) {
				c.Key = join(processes, name) + "." + c.Key
				changes = append(changes, c)
			}
		}
	}
	return changes
}

// defaultKey returns the key of the default of a setting of a process.
func defaultKey(key string) string {
	if key == "on_change" {
		return "daemon.on_change"
	}
	return key
}

// DiffProcess returns what differs between what a process was started with and what applies to it now. The keys are
// those of its table.
func DiffProcess(before, after Process) []Change {
	return diff(nil, "", reflect.ValueOf(before), reflect.ValueOf(after))
}

// diff appends the changes between two sections.
func diff(changes []Change, key string, before, after reflect.Value) []Change {
	old := fieldsOf(before)
	for i, f := range fieldsOf(after) {
		a, b, key := old[i].value, f.value, join(key, f.name)
		_, isText := b.Interface().(encoding.TextMarshaler)
		switch {
		case b.Kind() == reflect.Struct && !isText:
			changes = diff(changes, key, a, b)
		case b.Kind() == reflect.Map:
			changes = diffEnv(changes, key, a.Interface().(map[string]string), b.Interface().(map[string]string), whenOf(f.apply))
		case b.Type() == reflect.TypeFor[Secret]():
			if a.String() != b.String() {
				changes = append(changes, Change{key, show(a), show(b), whenOf(f.apply)})
			}
		default:
			if a, b := show(a), show(b); a != b {
				changes = append(changes, Change{key, a, b, whenOf(f.apply)})
			}
		}
	}
	return changes
}

func diffEnv(changes []Change, key string, before, after map[string]string, when When) []Change {
	all := maps.Clone(after)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, before)
	set := func(ok bool) string {
		if ok {
			return "(set)"
		}
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a, hadIt := before[name]
		b, hasIt := after[name]
		if a != b || hadIt != hasIt {
			changes = append(changes, Change{join(key, name), set(hadIt), set(hasIt), when})
		}
	}
	return changes
}

// show returns a value as it is written in a file.
func show(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Slice:
		list := make([]string, v.Len())
		for i := range list {
			list[i] = show(v.Index(i))
		}
		return "[" + strings.Join(list, ", ") + "]"
	case v.Type() == reflect.TypeFor[Secret]():
		return v.Interface().(Secret).String()
	case v.Kind() == reflect.String:
		return strconv.Quote(v.String())
	}
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return strconv.Quote(s.String())
	}
	return fmt.Sprint(v.Interface())
}
