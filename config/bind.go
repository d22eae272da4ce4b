package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// binder puts the values of a document into structs, and goes on after each problem. The decoder's own way would stop at
// the first value of a wrong type, and take a key in any case (docs/RATIONALE.md, "Why does the configuration bind its
// values itself?").
type binder struct {
	report
}

func newBinder(file string) *binder {
	return &binder{report: report{file: file, origin: make(map[string]position), failed: make(map[string]bool)}}
}

// field is a field of a section.
type field struct {
	name  string
	apply string // see When
	value reflect.Value
}

// fieldsOf returns the fields of a section by their keys, those of embedded structs among them, in order.
func fieldsOf(v reflect.Value) []field {
	var list []field
	for i := range v.NumField() {
		switch f := v.Type().Field(i); {
		case f.Anonymous:
			list = append(list, fieldsOf(v.Field(i))...)
		case f.Tag.Get("toml") != "":
			list = append(list, field{f.Tag.Get("toml"), f.Tag.Get("apply"), v.Field(i)})
		}
	}
	return list
}

// text is a value that is written in a form of its own.
type text interface {
	encoding.TextUnmarshaler
	want() string // says what to write
}

// number is a text that may be written as a plain number too.
type number interface {
	fromInteger(n int64) error
}

// table fills a section from the values of a table. More are keys that the caller knows beside those of the section.
func (b *binder) table(v reflect.Value, values map[string]any, at *place, key string, more ...string) {
	fields := fieldsOf(v)
	for name, value := range values {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			names := make([]string, 0, len(fields)+len(more))
			for _, f := range fields {
				names = append(names, f.name)
			}
			b.fail(join(key, name), at.child(name), unknown(name, append(names, more...)))
			continue
		}
		b.value(fields[i].value, value, at.child(name), join(key, name))
	}
}

// value sets v, which is settable, to a value of the document.
func (b *binder) value(v reflect.Value, value any, at *place, key string) {
	_, isText := v.Addr().Interface().(text)
	nested := !isText && (v.Kind() == reflect.Struct || v.Kind() == reflect.Map)
	if other, ok := b.taken[key]; ok && !nested {
		b.fail(key, at, fmt.Sprintf("is set in %s too; remove one of the two", other))
		return
	}
	b.origin[key] = at.position
	switch x := value.(type) {
	case string:
		if isText {
			fresh := reflect.New(v.Type()) // so that a bad value leaves the default
			if err := fresh.Interface().(text).UnmarshalText([]byte(x)); err != nil {
				b.fail(key, at, quote(x)+": "+err.Error())
				return
			}
			v.Set(fresh.Elem())
			return
		}
		if v.Kind() == reflect.String {
			v.SetString(x)
			return
		}
	case int64:
		if t, ok := v.Addr().Interface().(number); ok {
			if err := t.fromInteger(x); err != nil {
				b.fail(key, at, fmt.Sprintf("%d: %v", x, err))
			}
			return
		}
		if v.Kind() == reflect.Int {
			if v.OverflowInt(x) {
				b.fail(key, at, fmt.Sprintf("%d is too large", x))
				return
			}
			v.SetInt(x)
			return
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(x)
			return
		}
	case []any:
		if v.Kind() == reflect.Slice {
			list := reflect.MakeSlice(v.Type(), len(x), len(x))
			for i := range x {
				b.value(list.Index(i), x[i], at.element(i), fmt.Sprintf("%s[%d]", key, i))
			}
			v.Set(list)
			return
		}
	case map[string]any:
		if nested && v.Kind() == reflect.Struct {
			b.table(v, x, at, key)
			return
		}
		if nested {
			b.texts(v, x, at, key)
			return
		}
	}
	b.fail(key, at, fmt.Sprintf("is %s; write %s", kindOf(value), wanted(v)))
}

// texts adds to a map of strings.
func (b *binder) texts(v reflect.Value, values map[string]any, at *place, key string) {
	m := reflect.MakeMapWithSize(v.Type(), v.Len()+len(values))
	for it := v.MapRange(); it.Next(); {
		m.SetMapIndex(it.Key(), it.Value())
	}
	for name, value := range values {
		s := reflect.New(v.Type().Elem()).Elem()
		b.value(s, value, at.child(name), join(key, name))
		m.SetMapIndex(reflect.ValueOf(name), s)
	}
	v.Set(m)
}

// fail notes a problem and that the key does not have the value that the file says.
func (b *binder) fail(key string, at *place, problem string) {
	b.failed[key] = true
	b.add(key, at.position, problem)
}

// kindOf says what a value of the document is.
func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "text"
	case bool:
		return "true or false"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or a time of day"
}

// wanted says what to write for a field.
func wanted(v reflect.Value) string {
	if t, ok := v.Addr().Interface().(text); ok {
		return t.want()
	}
	switch v.Kind() {
	case reflect.Bool:
		return "true or false, without quotes"
	case reflect.Int:
		return "a whole number, without quotes"
	case reflect.Slice:
		return `a list, like ["one", "two"]`
	case reflect.Map:
		return `a table, like { LANG = "C" }`
	case reflect.Struct:
		return "a table, with its keys below it"
	}
	return "text in quotes"
}

// unknown says what to do about a key that is not in the schema.
func unknown(name string, names []string) string {
	best, least := "", 3
	for _, n := range names {
		if d := distance(name, n); d < least && 2*d <= len(name) {
			best, least = n, d
		}
	}
	if best != "" {
		return "there is no such key; did you mean " + best + "?"
	}
	return "there is no such key; here are " + strings.Join(names, ", ")
}

// distance is how many bytes have to be inserted, removed or changed to make b of a; at least 3 if they are of very
// different lengths.
func distance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 3
	}
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
