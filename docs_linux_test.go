package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// block is a fenced block of a document. Its first word says what it is: "sh" runs; "output" has to be in what the sh
// before it printed, "…" standing for anything; of all others, one with a second word is the file of that name.
//
// The second word of sh says where it runs: without one in every test; "slow" in the slow ones, since it needs a compiler or
// minutes; "ci" in .ci/run, and "systemd" in packaging/test/systemd.sh, which have to have each of its lines.
type block struct {
	line int // of its first line of text
	info []string
	text string
}

var languages = []string{"c", "go", "rust", "ts", "toml", "text", "json"} // of blocks that do not run

// blocks returns the fenced blocks of a document.
func blocks(t *testing.T, file string) []block {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []block
	var open *block
	for i, line := range strings.Split(string(b), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{line: i + 2, info: strings.Fields(fence)}
		case isFence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: a block without an end", file, open.line)
	}
	return list
}

// guides returns the documents whose blocks run.
func guides(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("docs/guides/*.md")
	if err != nil || len(list) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	return append(list, "README.md")
}

// TestGuides runs every block of the README and the guides that is marked as shell, those of a document in one shell and a
// directory of its own. A block that no test would run is an error.
func TestGuides(t *testing.T) {
	for _, file := range guides(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".md"), func(t *testing.T) {
			t.Parallel()
			runGuide(t, file, false)
		})
	}
}

func runGuide(t *testing.T, file string, slow bool) {
	dir := shortDir(t)
	_, port, _ := strings.Cut(freeAddress(t), ":")
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	ran := 0
	type want struct {
		block
		of int // the block that prints it
	}
	var wants []want
	last := -1
	for i, b := range blocks(t, file) {
		at := fmt.Sprintf("%s:%d", file, b.line)
		kind, mark := "", ""
		if len(b.info) > 0 {
			kind = b.info[0]
		}
		if len(b.info) > 1 {
			mark = b.info[1]
		}
		switch {
		case kind == "sh" && (mark == "" || mark == "slow"):
			last = -1
			if mark == "slow" && !slow {
				break
			}
			last = i
			ran++
			fmt.Fprintf(&script, "echo '== %s'; echo '== block %d'\n%s", at, i, strings.ReplaceAll(b.text, "8080", port))
		case kind == "sh" && mark == "ci":
			wantLines(t, at, b.text, ".ci/run", "'%s'")
		case kind == "sh" && mark == "systemd":
			wantLines(t, at, b.text, "packaging/test/systemd.sh", "inside %s")
		case kind == "output" && mark == "":
			if last >= 0 {
				wants = append(wants, want{b, last})
			}
		case kind != "sh" && len(b.info) <= 2 && slices.Contains(languages, kind):
			if mark != "" {
				if err := os.WriteFile(filepath.Join(dir, filepath.Base(mark)), []byte(b.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		default:
			t.Errorf("%s: a block %q, which no test knows", at, strings.Join(b.info, " "))
		}
	}
	if ran == 0 || t.Failed() {
		return
	}
	out := runShell(t, dir, script.String())
	for _, w := range wants {
		_, part, _ := strings.Cut(out, fmt.Sprintf("== block %d\n", w.of))
		part, _, _ = strings.Cut(part, "\n== ")
		for _, line := range strings.Split(strings.TrimSpace(w.text), "\n") {
			re := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*")
			if !regexp.MustCompile(`(?m)^\s*` + re + `\s*$`).MatchString(part) {
				t.Errorf("%s:%d: %q is not in what was printed:\n%s", file, w.line, line, part)
			}
		}
	}
}

// runShell runs a script with perdure, the examples and a home of its own, and returns what it prints.
func runShell(t *testing.T, dir, script string) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(here, "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	perdure, err := exec.LookPath("perdure")
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	goes := strings.Split(string(goroot), "\n")
	state := filepath.Join(dir, ".local", "state", "perdure")
	cmd.Env = append(os.Environ(), "HOME="+dir, "TERM=dumb", "PERDURE_STATE="+state, "PERDURE_SOCKET="+filepath.Join(dir, "s"),
		"XDG_CACHE_HOME="+serverCache(), "GOCACHE="+goes[1], "GOMODCACHE="+goes[2], "GOFLAGS=-mod=mod", "GO111MODULE=on",
		// Debian's compilers before others, and perdure, which testscript has put there, before all.
		"PATH="+strings.Join([]string{filepath.Dir(perdure), filepath.Join(goes[0], "bin"), "/usr/bin", "/bin", os.Getenv("PATH")}, ":"))
	// A pipe of our own, which is read to its end when all that was left in the background is ended.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that this is ended with it
	err = cmd.Start()
	w.Close()
	var out buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&out, r) // what is missing is missed
	}()
	if err == nil {
		err = cmd.Wait()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing may be left
	}
	endWorkersIn(state)
	(&server{t: t, dir: dir}).endKeeper()
	select {
	case <-read:
	case <-time.After(patience):
		t.Errorf("somebody still has its output:\n%s", out.String())
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// wantLines wants each command of a block in another file, which runs it.
func wantLines(t *testing.T, at, text, file, form string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.SplitN(line, " #", 2)[0])
		if line != "" && !strings.HasPrefix(line, "#") && !bytes.Contains(b, fmt.Appendf(nil, form, line)) {
			t.Errorf("%s: %s does not run %q", at, file, line)
		}
	}
}

// shortDir returns a directory whose name leaves room for the path of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
