package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// What a file may have. The decoder takes a multiple of its length in memory, and for a table time that is quadratic in
// the number of its keys.
const (
	maxFile     = 1 << 20  // bytes of a configuration
	maxSideFile = 64 << 10 // bytes of a side file
	maxKeys     = 10_000   // keys of one table
	maxDepth    = 8        // parts of a key, and lists and tables within each other; the schema has less
)

// document is a file of TOML: its values, and where its keys are.
type document struct {
	values map[string]any
	at     *place
}

// place says where a key is, and what is below it.
type place struct {
	position
	table map[string]*place
	list  []*place
}

// child returns the place of a key in a table; never nil.
func (p *place) child(name string) *place {
	if c := p.table[name]; c != nil {
		return c
	}
	return &place{position: p.position}
}

// element returns the place of an element of a list; never nil.
func (p *place) element(i int) *place {
	if i < len(p.list) {
		return p.list[i]
	}
	return &place{position: p.position}
}

// grow makes the place of a key in a table, if it is new.
func (p *place) grow(name string, at position) {
	if p.table == nil {
		p.table = make(map[string]*place)
	}
	if p.table[name] == nil {
		p.table[name] = &place{position: at}
	}
}

// read reads a document of at most limit bytes. The name of its file is for messages.
func read(r io.Reader, file string, limit int64) (*document, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%smore than %d bytes, which is no configuration", position{file: file}.prefix(), limit)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // some editors begin a file with it
	d := &document{values: make(map[string]any)}
	l := locator{file: file, starts: lineStarts(text)}
	d.at = l.locate(text) // first, for it is what holds the limits
	if l.excess != "" {
		return nil, syntaxError(text, file, l.excessAt.line, l.excessAt.column, l.excess)
	}
	if err := toml.Unmarshal(text, &d.values); err != nil {
		line, column := 1, 1
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, column = at.Position()
		}
		return nil, syntaxError(text, file, line, column, strings.TrimPrefix(err.Error(), "toml: "))
	}
	return d, nil
}

func syntaxError(text []byte, file string, line, column int, problem string) *SyntaxError {
	e := &SyntaxError{File: file, Line: line, Column: column, Problem: problem}
	if lines := bytes.Split(text, []byte("\n")); e.Line <= len(lines) {
		e.Text = string(bytes.TrimSuffix(lines[e.Line-1], []byte("\r")))
	}
	return e
}

// locator finds where the keys of a text are. The decoder tells it for errors of its own only.
type locator struct {
	file   string
	starts []int // offset of each line
	parser unstable.Parser

	excess   string // which limit the text exceeds
	excessAt position
}

func lineStarts(text []byte) []int {
	starts := []int{0}
	for i, b := range text {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

func (l *locator) position(n *unstable.Node) position {
	offset := int(n.Raw.Offset)
	line := sort.SearchInts(l.starts, offset+1) // the number of starts up to offset
	return position{file: l.file, line: line, column: offset - l.starts[line-1] + 1}
}

// locate walks over a text up to its first error, which it leaves to the decoder, or the first excess.
func (l *locator) locate(text []byte) *place {
	root := new(place)
	table := root // that the last heading has opened
	l.parser.Reset(text)
	for l.excess == "" && l.parser.NextExpression() {
		switch n := l.parser.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = l.path(root, n.Key())
		case unstable.KeyValue:
			l.value(l.path(table, n.Key()), n.Value(), 0)
		}
	}
	return root
}

// exceed notes which limit a text exceeds.
func (l *locator) exceed(at position, format string, args ...any) {
	if l.excess == "" {
		l.excess, l.excessAt = fmt.Sprintf(format, args...), at
	}
}

// path follows the parts of a key.
func (l *locator) path(p *place, key unstable.Iterator) *place {
	for depth := 0; key.Next(); depth++ {
		n := key.Node()
		at := l.position(n)
		if depth == maxDepth {
			l.exceed(at, "a key of more than %d parts; no setting has as many", maxDepth)
			break
		}
		p.grow(string(n.Data), at)
		if len(p.table) > maxKeys {
			l.exceed(at, "more than %d keys in one table", maxKeys)
		}
		p = p.table[string(n.Data)]
	}
	return p
}

// value notes what is inside of a value.
func (l *locator) value(p *place, n *unstable.Node, depth int) {
	if n.Kind != unstable.InlineTable && n.Kind != unstable.Array {
		return
	}
	if depth == maxDepth {
		l.exceed(p.position, "more than %d lists and tables within each other; no setting has as many", maxDepth)
		return
	}
	for it := n.Children(); it.Next() && l.excess == ""; {
		c := it.Node()
		if n.Kind == unstable.InlineTable {
			l.value(l.path(p, c.Key()), c.Value(), depth+1)
			continue
		}
		e := &place{position: p.position}
		// Tables and lists do not know where they begin.
		if c.Kind != unstable.Array && c.Kind != unstable.InlineTable {
			e.position = l.position(c)
		}
		p.list = append(p.list, e)
		l.value(e, c, depth+1)
	}
}
