package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// KeyError is a problem with one key.
type KeyError struct {
	// Key is the path of the key, with the name of a process quoted where TOML wants it: process.web.listen[0]. In a
	// side file it has the same path.
	Key string
	// File, Line and Column say where the key is. Lines and columns (of bytes) begin with 1 and are 0 if no file has the
	// key; File is empty if its name is not known.
	File         string
	Line, Column int
	// Problem says what is wrong and what to do.
	Problem string
}

// Error returns position, key and problem.
func (e *KeyError) Error() string {
	return position{e.File, e.Line, e.Column}.prefix() + shorten(e.Key) + ": " + e.Problem
}

// SyntaxError is a text that is not TOML, or has a key twice.
type SyntaxError struct {
	// File, Line and Column say where, as in KeyError. Text is that line.
	File         string
	Line, Column int
	Text         string
	// Problem says what is wrong.
	Problem string
}

// Error returns position and problem, and below them the line with a mark under the place.
func (e *SyntaxError) Error() string {
	const before, after = 60, 40 // bytes that are shown of a long line
	start := min(max(e.Column-1, 0), len(e.Text))
	from, to := max(start-before, 0), min(start+after, len(e.Text))
	blank := func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}
	printable := func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}
	lead := strings.Map(printable, e.Text[from:start])
	return fmt.Sprintf("%s%s\n    %s%s\n    %s^", position{e.File, e.Line, e.Column}.prefix(), e.Problem,
		lead, strings.Map(printable, e.Text[start:to]), strings.Map(blank, lead))
}

// position is a place in a file. Line 0 is nowhere.
type position struct {
	file         string
	line, column int
}

func (p position) String() string {
	switch {
	case p.line == 0:
		return p.file
	case p.file == "":
		return fmt.Sprintf("line %d, column %d", p.line, p.column)
	}
	return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.column)
}

func (p position) prefix() string {
	if s := p.String(); s != "" {
		return s + ": "
	}
	return ""
}

// report collects problems.
type report struct {
	file   string              // that is being read
	origin map[string]position // of every key that the file has set
	taken  map[string]position // of every key that other files have set, and this one must not
	failed map[string]bool     // keys whose value is not what the file says
	found  []*KeyError
}

// add notes a problem with a key.
func (r *report) add(key string, at position, problem string) {
	if at.file == "" {
		at.file = r.file
	}
	r.found = append(r.found, &KeyError{Key: key, File: at.file, Line: at.line, Column: at.column, Problem: problem})
}

// err joins what was found, those with a position first and in order.
func (r *report) err() error {
	slices.SortStableFunc(r.found, func(a, b *KeyError) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(r.found))
	for i, e := range r.found {
		errs[i] = e
	}
	return errors.Join(errs...)
}

// join appends a name to the path of a key, in quotes where TOML wants them.
func join(path, name string) string {
	bare := name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
	if !bare {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

// shorten bounds what a message quotes.
func shorten(s string) string {
	const most = 120 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// quote quotes a value in a message.
func quote(s string) string { return strconv.Quote(shorten(s)) }
