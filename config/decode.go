package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

const processes = "process" // the table of the tables of processes

// Load reads the configuration from a file, without side files; see WithFolder. The error of a file that is not there
// is fs.ErrNotExist.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close() // it was only read
	return decode(f, path)
}

// Decode reads a configuration as Load does, from a text that has no file name.
func Decode(r io.Reader) (Config, error) { return decode(r, "") }

func decode(r io.Reader, file string) (Config, error) {
	doc, err := read(r, file, maxFile)
	if err != nil {
		return Config{}, err
	}
	c := Default().clone()
	b := newBinder(file)
	c.origin = b.origin
	tables, hasTables := doc.values[processes]
	delete(doc.values, processes)
	b.table(reflect.ValueOf(&c).Elem(), doc.values, doc.at, "", processes)
	if hasTables {
		b.processes(&c, tables, doc.at.child(processes))
	}
	c.check(&b.report)
	if err := b.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// processes reads the tables of processes, after the sections that they inherit from.
func (b *binder) processes(c *Config, value any, at *place) {
	tables, ok := value.(map[string]any)
	if !ok {
		b.fail(processes, at, fmt.Sprintf("is %s; write a table [process.NAME] for each process", kindOf(value)))
		return
	}
	for name, value := range tables {
		at := at.child(name)
		table, ok := value.(map[string]any)
		if !ok {
			b.fail(join(processes, name), at, fmt.Sprintf("is %s; write a table, with its keys below it", kindOf(value)))
			continue
		}
		c.Processes[name] = b.process(c, name, table, at)
	}
}

// process reads what a file says about one process.
func (b *binder) process(c *Config, name string, table map[string]any, at *place) Process {
	key := join(processes, name)
	if at.line != 0 {
		b.origin[key] = at.position
	}
	p := c.Process(name)
	b.table(reflect.ValueOf(&p).Elem(), table, at, key)
	return p
}

// WithSide returns c with a side file added: the table of the process called name, without its heading. File is its
// name for messages. A key that the table [process.NAME] has as well is an error that names both places. What is
// reported is about this process alone; c has to be valid.
func (c Config) WithSide(name, file string, r io.Reader) (Config, error) {
	c = c.clone()
	if err := c.merge(name, file, r, c.listeners()); err != nil {
		return Config{}, err
	}
	return c, nil
}

// merge adds a side file to c, which nobody else has; with an error it changes nothing.
func (c *Config) merge(name, file string, r io.Reader, ls listeners) error {
	doc, err := read(r, file, maxSideFile)
	if err != nil {
		return err
	}
	b := newBinder(file)
	b.taken = c.origin
	p := b.process(c, name, doc.values, doc.at)
	c.checkProcess(&b.report, name, p, ls)
	if err := b.err(); err != nil {
		return err
	}
	c.Processes[name] = p
	ls.add(name, p)
	maps.Copy(c.origin, b.origin)
	return nil
}

// WithFolder returns c with the side files of its modules directory, as WithSide would add them in the order of their
// names. A side file with a problem is left out and has an entry in failed, by the name of its process, which then
// should not start. A directory that is missing has no side files; one that cannot be read is an error. Side files
// whose program is not there yet are read too.
func (c Config) WithFolder() (_ Config, failed map[string]error, _ error) {
	dir := c.Daemon.ModulesDir
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil, nil
	}
	if err != nil {
		return Config{}, nil, fmt.Errorf("side files: %w", err)
	}
	c, failed = c.clone(), make(map[string]error)
	ls := c.listeners()
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".toml")
		if !ok || strings.HasPrefix(name, ".") { // an editor's
			continue
		}
		err := c.mergeFile(name, filepath.Join(dir, entry.Name()), ls)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have gone meanwhile
			failed[name] = err
		}
	}
	return c, failed, nil
}

func (c *Config) mergeFile(name, path string, ls listeners) error {
	// A pipe with that name would never end.
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return fmt.Errorf("side file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("side file: %w", err)
	}
	defer f.Close() // it was only read
	return c.merge(name, path, f, ls)
}

// Names returns the names of the processes that have a table or a side file, sorted.
func (c Config) Names() []string { return slices.Sorted(maps.Keys(c.Processes)) }
