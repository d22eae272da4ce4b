package main_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	maxLines     = 600  // of a Go file
	maxTestLines = 1000 // of a test: tables are long, and are not read from top to bottom
)

// longFiles are the Go files that may be longer, each with the reason why it is still one thing.
var longFiles = map[string]string{}

// goFile is what the rules need to know of one Go file of the module.
type goFile struct {
	path    string // relative to the module, with slashes
	test    bool
	imports []string
	name    string // of the package clause
	doc     string // the package comment, if it is in this file
	lines   int
}

// TestTreePackageComments wants every package to say in its comment what it is for.
func TestTreePackageComments(t *testing.T) {
	commented := make(map[string]bool)
	for _, f := range goFiles(t) {
		dir := path.Dir(f.path)
		want := "Package " + f.name + " "
		switch {
		case f.name == "main" && dir == ".":
			want = "Perdure " // a command's comment begins with its name
		case f.name == "main":
			want = "Command " + path.Base(dir) + " "
		}
		if !f.test {
			commented[dir] = commented[dir] || strings.HasPrefix(f.doc, want)
		}
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("package %s has no comment that begins with its name", packageName(dir))
		}
	}
}

// TestTreeFileLength wants files that can be read in one sitting, and no excuse that is not needed any more.
func TestTreeFileLength(t *testing.T) {
	long := make(map[string]bool)
	for _, f := range goFiles(t) {
		limit := maxLines
		if f.test {
			limit = maxTestLines
		}
		if f.lines <= limit {
			continue
		}
		long[f.path] = true
		if longFiles[f.path] == "" {
			t.Errorf("%s has %d lines, more than %d: split it by concept, or give the reason in longFiles", f.path, f.lines, limit)
		}
	}
	for name := range longFiles {
		if !long[name] {
			t.Errorf("%s is in longFiles, but is not long", name)
		}
	}
}

// TestTreeSpeaksOfItselfAlone wants no path of the machine that something was written or compiled on, in any file, text or
// binary, and no loose ends in the sources.
func TestTreeSpeaksOfItselfAlone(t *testing.T) {
	// Split, so that this file does not find itself.
	machine := regexp.MustCompile(`(^|[^A-Za-z0-9_.~-])(/` + `root/|/` + `work/|/` + `tmp/plan)`)
	loose := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	for _, name := range trackedFiles(t) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := machine.FindIndex(b); at != nil {
			t.Errorf("%s:%d: a path of some machine: %q", name, lineOf(b, at[0]), excerpt(b, at[0]))
		}
		if !slices.Contains([]string{".go", ".sh", ".md", ".c", ".rs", ".zig", ".ts"}, path.Ext(name)) {
			continue
		}
		if at := loose.FindIndex(b); at != nil {
			t.Errorf("%s:%d: a loose end: %q", name, lineOf(b, at[0]), excerpt(b, at[0]))
		}
	}
}

// TestTreeIsMerged wants no file to have both sides of a merge in it.
func TestTreeIsMerged(t *testing.T) {
	marker := regexp.MustCompile(`(?m)^(<{7}|>{7}) `)
	for _, name := range trackedFiles(t) {
		if at := marker.FindStringIndex(readFile(t, name)); at != nil {
			t.Errorf("%s has the mark of a merge at byte %d", name, at[0])
		}
	}
}

// TestTreeLinks wants the files that the documentation links to, and the headings of docs/RATIONALE.md that comments cite.
func TestTreeLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`) // without a colon: not a URL
	cited := regexp.MustCompile(`docs/RATIONALE\.md,? "([^"]+)"`)
	rationale := readFile(t, "docs/RATIONALE.md")
	for _, name := range trackedFiles(t) {
		switch path.Ext(name) {
		case ".md":
			text := readFile(t, name)
			for _, m := range link.FindAllStringSubmatch(text, -1) {
				if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
					t.Errorf("%s links to %s, which is not there", name, m[1])
				}
			}
		case ".go":
			// A heading may be broken over two lines of a comment.
			text := regexp.MustCompile(`\n\s*// ?`).ReplaceAllString(readFile(t, name), " ")
			for _, m := range cited.FindAllStringSubmatch(text, -1) {
				if !regexp.MustCompile(`(?m)^##+ ` + regexp.QuoteMeta(m[1]) + `$`).MatchString(rationale) {
					t.Errorf("%s cites docs/RATIONALE.md %q, a heading that is not there", name, m[1])
				}
			}
		}
	}
}

// goFiles returns the Go files of the module, those of all platforms and build tags, but not what lies under testdata.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	for _, name := range trackedFiles(t) {
		if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, goFile{
			path:    name,
			test:    strings.HasSuffix(name, "_test.go"),
			imports: importsOf(t, parsed),
			name:    parsed.Name.Name,
			doc:     parsed.Doc.Text(),
			lines:   bytes.Count(src, []byte("\n")),
		})
	}
	if len(files) == 0 {
		t.Fatal("no Go files found: these tests must run in the module's own directory")
	}
	return files
}

func importsOf(t *testing.T, f *ast.File) []string {
	t.Helper()
	var list []string
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, imp)
	}
	return list
}

// trackedFiles returns the regular files that belong to the project, relative to its top: what git tracks or would track,
// or, in a copy without git, all that is not hidden.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		names := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		return slices.DeleteFunc(names, func(name string) bool {
			info, err := os.Lstat(name) // a file may be deleted and not yet staged
			return err != nil || !info.Mode().IsRegular()
		})
	}
	var names []string
	err = filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case entry.Type().IsRegular():
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func lineOf(b []byte, offset int) int { return 1 + bytes.Count(b[:offset], []byte("\n")) }

func excerpt(b []byte, offset int) []byte { return b[offset:min(offset+60, len(b))] }
