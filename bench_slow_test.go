//go:build slow

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"perdure/runtime/bench"
)

// TestBench runs the short measurement and wants a result of the form that is documented, with sensible numbers, whatever
// they are.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	svg := filepath.Join(dir, "bench.svg")
	// CRIU seldom works in a container; this one does nothing, and it is seen that it is asked to.
	fake := filepath.Join(t.TempDir(), "criu")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("perdure", "bench", "--quick", "--json", "--vs", strings.Join(bench.Others(), ","), "--svg", svg, "--dir", dir)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(fake)+":"+os.Getenv("PATH"))
	var out, said buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(15*time.Minute, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	d := json.NewDecoder(strings.NewReader(out.String()))
	d.DisallowUnknownFields()
	var r bench.Result
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if !r.Quick || r.Took <= 0 || r.Machine.Cores < 1 || r.Machine.Kernel == "" || r.Machine.Wazero == "" || r.Machine.Time.IsZero() {
		t.Errorf("the machine is %+v", r)
	}
	seen := map[string]bool{}
	for _, l := range r.Lines {
		switch {
		case seen[l.ID] || l.ID == "" || l.What == "" || l.Unit == "":
			t.Errorf("%+v: twice, or without a word", l)
		case l.Value <= 0 || l.Samples < 1:
			t.Errorf("%+v: no value", l)
		case l.P99 != 0 && l.P99 < l.Value || l.Max < l.P99:
			t.Errorf("%+v: the parts do not fit", l)
		}
		seen[l.ID] = true
	}
	for _, id := range []string{
		"speed.geomean", "speed.control", "pause.64MiB", "commit.ratio", "restore.ratio", "generation.idle", "generation.1000pages", "journal.write",
		"recovery.c", "criu.dump", "criu.ours", "echo.one", "echo.many.native", "connections.stall",
	} {
		if !seen[id] {
			t.Errorf("%s is not measured", id)
		}
	}
	// No matter of speed: none may be lost.
	if l, _ := r.Find("connections.survived"); l.Value != 1 {
		t.Errorf("connections were lost: %+v", l)
	}
	// Each of the others is measured or told of.
	for _, name := range bench.Others() {
		found := false
		for _, l := range r.Lines {
			found = found || strings.HasPrefix(l.ID, name+".")
		}
		for _, s := range r.Skipped {
			found = found || s.What == "against "+name && s.Why != ""
		}
		if !found {
			t.Errorf("%s is neither measured nor told of", name)
		}
	}
	picture, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	for x := xml.NewDecoder(strings.NewReader(string(picture))); ; {
		if _, err := x.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
