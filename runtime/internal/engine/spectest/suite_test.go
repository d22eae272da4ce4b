package spectest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// suite is one version of the specification's tests.
type suite struct {
	name     string
	features api.CoreFeatures
	want     tally
}

// script is one file of a suite.
type script struct {
	suite    *suite
	name     string
	dir      string
	commands []command
}

// command is one entry of a script, as wast2json writes it. Which fields are set depends on Type.
type command struct {
	Type       string  `json:"type"`
	Line       int     `json:"line"`
	Name       string  `json:"name"`        // module, register: the instance's name in the script
	Filename   string  `json:"filename"`    // module, assert_* about a module
	As         string  `json:"as"`          // register: the name under which others import it
	ModuleType string  `json:"module_type"` // assert_* about a module: "binary" or "text"
	Text       string  `json:"text"`        // assert_*: the reason that the specification gives
	Action     action  `json:"action"`
	Expected   []value `json:"expected"`
}

// action is what a command does with an instance.
type action struct {
	Type   string  `json:"type"` // invoke, get
	Module string  `json:"module"`
	Field  string  `json:"field"`
	Args   []value `json:"args"`
}

// testdata finds the directory of the specification tests inside the wazero module. It asks the go command, so that
// the tests are those of the very version which the project is built with.
var testdata = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		return "", fmt.Errorf("find the wazero module: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return "", fmt.Errorf("find the wazero module: it is not in the module cache")
	}
	return filepath.Join(dir, "internal", "integration_test", "spectest"), nil
})

// spectestModule returns the module that the specification's scripts import under the name "spectest".
func spectestModule() ([]byte, error) {
	dir, err := testdata()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "testdata", "spectest.wasm"))
}

// scripts reads every script of a suite, in the order of their names.
func (s *suite) scripts(tb testing.TB) []*script {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir(tb), "*.json"))
	if err != nil {
		tb.Fatal(err)
	}
	all := make([]*script, 0, len(files))
	for _, file := range files {
		all = append(all, s.script(tb, strings.TrimSuffix(filepath.Base(file), ".json")))
	}
	return all
}

// script reads one script of a suite.
func (s *suite) script(tb testing.TB, name string) *script {
	tb.Helper()
	dir := s.dir(tb)
	raw, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	var list struct {
		Commands []command `json:"commands"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		tb.Fatalf("decode %s/%s: %v", s.name, name, err)
	}
	return &script{suite: s, name: name, dir: dir, commands: list.Commands}
}

// dir returns the directory of the suite's scripts and modules.
func (s *suite) dir(tb testing.TB) string {
	tb.Helper()
	root, err := testdata()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(root, s.name, "testdata")
}

// module reads a binary module that a command of the script names.
func (s *script) module(filename string) ([]byte, error) {
	if filename == "" || filename != filepath.Base(filename) {
		return nil, fmt.Errorf("module file name %q", filename)
	}
	return os.ReadFile(filepath.Join(s.dir, filename))
}
