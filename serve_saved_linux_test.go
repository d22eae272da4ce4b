package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"perdure/daemon"
)

// TestServedGenerations asks the daemon about what is saved of a process that runs, and lets it change that.
func TestServedGenerations(t *testing.T) {
	s := newServedServer(t)
	s.startDaemon()
	snapshot := func(said string) uint64 {
		t.Helper()
		c := s.dial()
		defer c.Close()
		fmt.Fprint(c, said)
		if _, err := io.ReadFull(c, make([]byte, len(said))); err != nil {
			t.Fatal(err)
		}
		g, err := s.client.Snapshot(s.within(), servedName)
		if err != nil {
			t.Fatal(err)
		}
		return g.Number
	}
	wants := func(what string, err error, code daemon.Code) {
		t.Helper()
		if !errors.Is(err, code) {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	before, after := snapshot("one"), snapshot("another")

	if v, err := s.client.Verify(s.within(), servedName); err != nil || !v.OK || len(v.Generations) < 2 {
		t.Errorf("verify says %+v, %v", v, err)
	}
	if d, err := s.client.Diff(s.within(), servedName, before, after); err != nil || d.PagesBefore == 0 || d.PagesChanged == 0 ||
		len(d.Changed) == 0 || !slices.Contains(d.Altered, "wasi") {
		t.Errorf("diff says %+v, %v", d, err)
	}
	_, err := s.client.Diff(s.within(), servedName, before, after+1000)
	wants("diff with what is not there", err, daemon.CodeNotFound)

	if g, err := s.client.Fork(s.within(), servedName, before, "copy"); err != nil || g.Number != before {
		t.Errorf("fork says %+v, %v", g, err)
	}
	if i, err := s.client.Inspect(s.within(), "copy"); err != nil || i.PID != 0 || i.State != daemon.StateStopped {
		t.Errorf("the copy is %+v, %v", i, err)
	}
	_, err = s.client.Fork(s.within(), servedName, before, "copy")
	wants("a second fork", err, daemon.CodeExists)
	_, err = s.client.Fork(s.within(), servedName, before, "../copy")
	wants("a fork elsewhere", err, daemon.CodeRequest)

	g, err := s.client.Rollback(s.within(), servedName, before)
	if err != nil || g.Number <= after {
		t.Errorf("rollback says %+v, %v", g, err)
	}
	s.eventually("a worker behind the rollback", func() bool { return s.worker() != 0 })
	snapshot("more")

	if p, err := s.client.Purge(s.within(), servedName, after, 0); err != nil || !slices.Equal(p.Purged, []uint64{after}) {
		t.Errorf("purge says %+v, %v", p, err)
	}
	_, err = s.client.Purge(s.within(), servedName, after, 0)
	wants("a second purge", err, daemon.CodeNotFound)
	_, err = s.client.Purge(s.within(), servedName, before, 1)
	wants("a purge of two kinds", err, daemon.CodeRequest)
	if p, err := s.client.Purge(s.within(), servedName, 0, 2); err != nil || len(p.Purged) == 0 {
		t.Errorf("purge says %+v, %v", p, err)
	}
	snapshot("more")

	// What is damaged is told, and the others are well.
	if err := s.client.Stop(s.within(), servedName); err != nil {
		t.Fatal(err)
	}
	list, err := s.client.Generations(s.within(), servedName)
	if err != nil || len(list) < 2 {
		t.Fatalf("%d generations, %v", len(list), err)
	}
	path := filepath.Join(s.dir, "state", servedName, "generations", fmt.Sprintf("%016x.gen", list[0].Number))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := s.client.Verify(s.within(), servedName); err != nil || v.OK || v.Generations[0].Error == "" {
		t.Errorf("verify of what is damaged says %+v, %v", v, err)
	}
}
