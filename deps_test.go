package main_test

import (
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// importRule is one row of the import table: what one package may import.
type importRule struct {
	ours   []string // package directories, "main" for the top
	others []string // module or package paths, short as in shortPath
	tests  []string // what its tests may import as well, of either kind
	pure   bool     // no I/O, clock, randomness or unsafe
}

// impure are the parts of the standard library that a pure package does without. A prefix covers what lies below it.
var impure = []string{"os", "net", "syscall", "time", "log", "math/rand", "crypto/rand", "unsafe", "plugin", "testing", "io/ioutil", "embed"}

// TestTreeImports holds the import table of docs/ARCHITECTURE.md against every Go file, whatever its platform and build
// tags: that is why the files are parsed and the go command, which sees one configuration at a time, is not asked.
func TestTreeImports(t *testing.T) {
	rules := readImportTable(t)
	for _, v := range importViolations(rules, goFiles(t)) {
		t.Error(v)
	}
}

// TestTreeImportRulesBite holds the checker itself against files that break each rule, and against some that break none.
func TestTreeImportRulesBite(t *testing.T) {
	rules, err := parseImportTable(strings.Join([]string{
		"<!-- import table -->",
		"| package | what it does | may import of ours | may import of others | its tests also |",
		"|---|---|---|---|---|",
		"| `main` | The top. | `a` | `spf13/cobra` | `rogpeppe/go-internal` |",
		"| `a` | Above. | `a/internal/b` | `x/sys` | `a/internal/fake` |",
		"| `a/internal/b` | Below. | | pure | |",
		"| `a/internal/fake` | For tests. | | | |",
		"",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		claim string
		file  goFile
		want  string // part of the one violation, empty for none
	}{
		{"an arrow of the table", goFile{path: "a/a.go", imports: []string{"perdure/a/internal/b", "os"}}, ""},
		{"a package below an allowed module", goFile{path: "a/a.go", imports: []string{"golang.org/x/sys/unix"}}, ""},
		{"the top imports what it may", goFile{path: "main.go", imports: []string{"perdure/a", "github.com/spf13/cobra"}}, ""},
		{"a test imports its own package and what its row adds", goFile{path: "a/a_test.go", test: true, imports: []string{"perdure/a", "perdure/a/internal/fake", "testing"}}, ""},
		{"a pure package's test reads files", goFile{path: "a/internal/b/b_test.go", test: true, imports: []string{"os"}}, ""},
		{"tests in a directory of their own follow the nearest row above", goFile{path: "a/deep/suite/x_test.go", test: true, imports: []string{"perdure/a/internal/b"}}, ""},
		{"an arrow upwards", goFile{path: "a/internal/b/b.go", imports: []string{"perdure/a"}}, "a/internal/b/b.go imports perdure/a"},
		{"an arrow over a layer", goFile{path: "main.go", imports: []string{"perdure/a/internal/b"}}, "main.go imports perdure/a/internal/b"},
		{"a module that is another package's", goFile{path: "a/a.go", imports: []string{"github.com/spf13/cobra"}}, "a/a.go imports github.com/spf13/cobra"},
		{"a module whose name only begins alike", goFile{path: "a/a.go", imports: []string{"golang.org/x/system"}}, "a/a.go imports golang.org/x/system"},
		{"what only tests may", goFile{path: "a/a.go", imports: []string{"perdure/a/internal/fake"}}, "a/a.go imports perdure/a/internal/fake"},
		{"a pure package that reads files", goFile{path: "a/internal/b/b.go", imports: []string{"io", "os/exec"}}, "a/internal/b/b.go imports os/exec"},
		{"cgo", goFile{path: "a/a.go", imports: []string{"C"}}, "a/a.go imports C"},
		{"a package without a row", goFile{path: "c/c.go"}, "c/c.go: no row for package c"},
	} {
		got := importViolations(rules, []goFile{c.file})
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
			t.Errorf("%s: got %q, want %q", c.claim, got, c.want)
		}
	}
}

// TestTreeImportTableRefusesNonsense holds the table's own consistency check against tables that lack it.
func TestTreeImportTableRefusesNonsense(t *testing.T) {
	const head = "<!-- import table -->\n| package | what it does | of ours | of others | tests |\n|---|---|---|---|---|\n"
	for claim, table := range map[string]string{
		"no marker":                           "| `a` | A. | | | |\n",
		"no row":                              head,
		"a column too few":                    head + "| `a` | A. | | |\n",
		"a package twice":                     head + "| `a` | A. | | | |\n| `a` | A. | | | |\n",
		"an arrow to a package without a row": head + "| `a` | A. | `b` | | |\n",
		"a pure package over an impure one":   head + "| `a` | A. | `b` | pure | |\n| `b` | B. | | | |\n",
		"an arrow both ways":                  head + "| `a` | A. | `b` | | |\n| `b` | B. | `a` | | |\n",
		"a package without a sentence":        head + "| `a` | | | | |\n",
	} {
		if _, err := parseImportTable(table); err == nil {
			t.Errorf("%s: no error", claim)
		}
	}
}

// TestTreeModulesHaveReasons holds every imported module against the headings of docs/RATIONALE.md, "Dependencies".
func TestTreeModulesHaveReasons(t *testing.T) {
	rationale := readFile(t, "docs/RATIONALE.md")
	_, dependencies, ok := strings.Cut(rationale, "\n## Dependencies\n")
	if !ok {
		t.Fatal("docs/RATIONALE.md has no heading Dependencies")
	}
	var reasons []string
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(dependencies, -1) {
		reasons = append(reasons, m[1])
	}
	for _, f := range goFiles(t) {
		for _, imp := range f.imports {
			if isModulePath(imp) && !covered(shortPath(imp), reasons) {
				t.Errorf("%s imports %s, which docs/RATIONALE.md gives no reason for: add a heading under Dependencies", f.path, imp)
			}
		}
	}
}

// TestTreeEnginePinned holds go.mod's version of the engine against the one that docs/RATIONALE.md was written for.
func TestTreeEnginePinned(t *testing.T) {
	m := regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/tetratelabs/wazero (v\S+)`).FindStringSubmatch(readFile(t, "go.mod"))
	if m == nil {
		t.Fatal("go.mod does not require wazero")
	}
	if heading := "### Why is wazero pinned to " + m[1] + "?"; !strings.Contains(readFile(t, "docs/RATIONALE.md"), heading) {
		t.Errorf("go.mod has wazero %s, but docs/RATIONALE.md has no heading %q: look at what is said there before changing the version", m[1], heading)
	}
}

// readImportTable returns the rules that docs/ARCHITECTURE.md states, by package directory.
func readImportTable(t *testing.T) map[string]importRule {
	t.Helper()
	rules, err := parseImportTable(readFile(t, "docs/ARCHITECTURE.md"))
	if err != nil {
		t.Fatalf("docs/ARCHITECTURE.md: %v", err)
	}
	return rules
}

var quoted = regexp.MustCompile("`([^`]+)`")

// parseImportTable reads the table that follows the marker in a Markdown text, and checks that it makes sense in itself.
func parseImportTable(markdown string) (map[string]importRule, error) {
	_, rest, ok := strings.Cut(markdown, "<!-- import table -->\n")
	if !ok {
		return nil, fmt.Errorf("no import table: the marker is missing")
	}
	rules := make(map[string]importRule)
	for i, line := range strings.Split(rest, "\n") {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if i < 2 { // the heading and the line below it
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 5 {
			return nil, fmt.Errorf("import table: %d columns, want 5: %s", len(cells), line)
		}
		name := names(cells[0])
		if len(name) != 1 || rules[name[0]].ours != nil {
			return nil, fmt.Errorf("import table: not one new package in the first column: %s", line)
		}
		if !strings.HasSuffix(strings.TrimSpace(cells[1]), ".") {
			return nil, fmt.Errorf("import table: no sentence says what %s does", name[0])
		}
		rules[name[0]] = importRule{
			ours:   names(cells[2]),
			others: names(cells[3]),
			tests:  names(cells[4]),
			pure:   strings.TrimSpace(quoted.ReplaceAllString(cells[3], "")) == "pure",
		}
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("import table: no rows")
	}
	return rules, checkRules(rules)
}

// checkRules reports an arrow that leads nowhere, leads back to where it came from, or leaves the pure packages.
func checkRules(rules map[string]importRule) error {
	var visit func(name string, way []string) error
	visit = func(name string, way []string) error {
		if slices.Contains(way, name) {
			return fmt.Errorf("import table: arrows in a circle: %s", strings.Join(append(way, name), " → "))
		}
		for _, below := range rules[name].ours {
			if _, ok := rules[below]; !ok {
				return fmt.Errorf("import table: %s may import %s, which has no row", name, below)
			}
			if rules[name].pure && !rules[below].pure {
				return fmt.Errorf("import table: %s is pure, but may import %s, which is not", name, below)
			}
			if err := visit(below, append(slices.Clone(way), name)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if err := visit(name, nil); err != nil {
			return err
		}
	}
	return nil
}

// names returns what a table cell has in backquotes; never nil.
func names(cell string) []string {
	list := []string{}
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list
}

// importViolations returns one line for each import that the rules do not allow and for each package without a row.
func importViolations(rules map[string]importRule, files []goFile) []string {
	var found []string
	for _, f := range files {
		name := packageName(path.Dir(f.path))
		rule, ok := rules[name]
		for f.test && !ok && name != "main" { // tests in a directory of their own
			name = packageName(path.Dir(name))
			rule, ok = rules[name]
		}
		if !ok {
			found = append(found, fmt.Sprintf("%s: no row for package %s in the import table of docs/ARCHITECTURE.md", f.path, name))
			continue
		}
		for _, imp := range f.imports {
			if why := refusal(rule, name, f.test, imp); why != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", f.path, imp, why))
			}
		}
	}
	return found
}

// refusal says why a file of the package called name must not import imp, or nothing when it may.
func refusal(rule importRule, name string, test bool, imp string) string {
	ours, isOurs := strings.CutPrefix(imp+"/", "perdure/")
	switch {
	case imp == "C":
		return "there is no cgo here"
	case isOurs:
		target := packageName(strings.TrimSuffix(ours, "/"))
		if slices.Contains(rule.ours, target) || test && (target == name || slices.Contains(rule.tests, target)) {
			return ""
		}
		return "the import table of docs/ARCHITECTURE.md has no such arrow"
	case isModulePath(imp):
		short := shortPath(imp)
		if covered(short, rule.others) || test && covered(short, rule.tests) {
			return ""
		}
		return "the import table of docs/ARCHITECTURE.md does not give this package that module"
	case rule.pure && !test && covered(imp, impure):
		return "the package is pure"
	}
	return ""
}

// packageName is a package's name in the table: its directory, and main for the top.
func packageName(dir string) string {
	if dir == "." || dir == "" {
		return "main"
	}
	return dir
}

// isModulePath tells other people's packages from the standard library's, as the go command does: by the dot in the host.
func isModulePath(imp string) bool {
	host, _, _ := strings.Cut(imp, "/")
	return strings.Contains(host, ".")
}

// shortPath is an import path without the hosts that the table leaves out.
func shortPath(imp string) string {
	for _, host := range []string{"github.com/", "golang.org/"} {
		imp = strings.TrimPrefix(imp, host)
	}
	return imp
}

// covered reports whether imp is one of the paths or lies below one.
func covered(imp string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return imp == p || strings.HasPrefix(imp, p+"/") })
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
