package config

import (
	"encoding"
	"reflect"
)

// Table returns what applies to a process under the keys that a file has for it: tables as maps, lists as slices, times
// and sizes as they are written.
func (p Process) Table() map[string]any { return table(reflect.ValueOf(p)) }

func table(v reflect.Value) map[string]any {
	m := make(map[string]any)
	for _, f := range fieldsOf(v) {
		m[f.name] = plain(f.value)
	}
	return m
}

// plain returns a value in the types that a document has.
func plain(v reflect.Value) any {
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		if text, err := t.MarshalText(); err == nil {
			return string(text)
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		return table(v)
	case reflect.Map:
		m := make(map[string]any, v.Len())
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = plain(it.Value())
		}
		return m
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.String:
		return v.String()
	}
	return v.Interface()
}
