//go:build slow

package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runExample runs an example with its script, which builds perdure and what is in Go.
func runExample(t *testing.T, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // it compiles
	defer cancel()
	cmd := exec.CommandContext(ctx, "examples/run", name)
	cmd.Env = append(os.Environ(), "PERDURE_STATE="+t.TempDir(), "XDG_CACHE_HOME="+serverCache(), "GOCACHE="+goCache(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("examples/run %s: %v", name, err)
	}
	return string(out)
}

// goCache returns Go's cache of builds, which is elsewhere when XDG_CACHE_HOME is.
func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestExampleScript runs an example of either kind with the one command that its README promises.
func TestExampleScript(t *testing.T) {
	if got := runExample(t, "hello"); got != "Hello, world! (1)\n" {
		t.Errorf("hello prints %q", got)
	}
	got := runExample(t, "image")
	if !strings.HasPrefix(got, "png, 96 x 96\n") || strings.Count(got, "\n") != 37 || !strings.ContainsAny(got, " .") {
		t.Errorf("image prints\n%s", got)
	}
}

// TestExampleWeb kills an HTTP service in the middle, and wants what was posted before.
func TestExampleWeb(t *testing.T) {
	wasm := filepath.Join(t.TempDir(), "web.wasm")
	build := exec.Command("go", "build", "-o", wasm, "./examples/web")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := newServer(t, wasm)
	s.start()
	waitFor(t, s, "the service", func() bool { return strings.Contains(s.stderr.String(), "serving") })
	ask := func(method, path, body, want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != want {
			t.Fatalf("%s %s: got %q, %v, want %q", method, path, got, err, want)
		}
	}
	ask("POST", "/", "hello", "1\n")
	ask("GET", "/visits", "", "1\n")
	for range 2 {
		s.kill()
		s.start()
	}
	ask("POST", "/", "again", "2\n")
	ask("GET", "/", "", "2: again\n1: hello\n")
	ask("GET", "/visits", "", "2\n")
	http.DefaultClient.CloseIdleConnections()
}
