//go:build slow

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"perdure/daemon"
)

// newDashboard starts a daemon with a dashboard and some programs.
func newDashboard(t *testing.T, token string) (s *served, address string) {
	address = freeAddress(t)
	s = newServed(t, fmt.Sprintf("[dashboard]\naddress = %q\ntoken = %q\n[limits]\nconfine = false\n[memsnap]\nmax_snapshots = 0\n[snapshot]\nevery = \"300ms\"\n"+
		"[process.memory]\nargs = [\"0\", \"50\"]\n[process.kv]\nlisten = [\"tcp://%s\"]\n", address, token, freeAddress(t)))
	s.start()
	return s, address
}

// dropExample puts an example into the folder.
func (s *served) dropExample(name string) {
	src, err := os.ReadFile(filepath.Join("examples", name+".wasm"))
	s.must(err)
	s.must(os.WriteFile(filepath.Join(s.dir, "new", name), src, 0o600))
	s.names = append(s.names, name)
	s.must(os.Rename(filepath.Join(s.dir, "new", name), filepath.Join(s.dir, "modules", name+".wasm")))
}

func (s *served) process(ctx context.Context, name string) (p daemon.Process) {
	i, err := s.client.Inspect(ctx, name)
	if err == nil {
		p = i.Process
	}
	return p
}

// TestDashboard clicks through the page in Chromium: it shows what the daemon knows, follows what happens, and each button
// does what the command of its name does.
func TestDashboard(t *testing.T) {
	s, address := newDashboard(t, "")
	for _, name := range []string{"memory", "life", "kv"} {
		s.dropExample(name)
	}
	s.until(10*time.Minute, 50*time.Millisecond, func(ctx context.Context) bool {
		list, err := s.client.Generations(ctx, "memory")
		return err == nil && len(list) > 8 && s.ready(ctx) == 3
	})
	b := newBrowser(t)
	b.look(1280, 1100, "light")
	b.open("http://" + address + "/")
	b.until("document.querySelectorAll('#list button').length === 3")
	b.until("document.querySelector('#live').textContent === 'live'")
	b.click("[data-name=memory]")
	b.until("document.querySelectorAll('#line .hit').length > 8")
	b.until("/pages? changed in generation|changed in generation/.test(document.querySelector('#memory').textContent)")
	b.until("/cells are right/.test(document.querySelector('#log').textContent)")
	b.until("/committed/.test(document.querySelector('#events').textContent)") // it comes by itself

	// The map tells of the page that the mouse is on, and says what the archive says.
	b.click("#heat")
	b.until(`/^page \d+ · 0x[0-9a-f]{8}–0x[0-9a-f]{8} · 64 KiB region \d+ · /.test(document.querySelector('#cell').textContent)`)
	// By keyboard: another page, and another generation.
	before := b.eval("document.querySelector('#cell').textContent")
	b.press("ArrowRight")
	b.until("document.querySelector('#cell').textContent !== " + quoteJS(before))
	b.eval("document.querySelector('#line').focus()")
	b.press("Home")
	b.until("document.querySelector('#line').getAttribute('aria-valuenow') === String(generations[0].number)")
	b.until("archive && archive.generation.number === chosen")
	for range 3 {
		b.press("ArrowRight")
	}
	b.until("chosen >= generations[0].number")
	b.shoot("desktop-light")
	b.look(1280, 1100, "dark")
	b.shoot("desktop-dark")
	b.look(390, 844, "dark")
	b.shoot("phone-dark")
	b.look(390, 844, "light")
	b.shoot("phone-light")
	if wide := b.eval("document.documentElement.scrollWidth"); wide != "390" {
		t.Errorf("on a phone the page is %s wide, not 390", wide)
	}

	b.click("#fork")
	b.until("document.querySelector('#ask').open")
	b.shoot("phone-dialog")
	b.press("Escape")
	b.until("!document.querySelector('#ask').open")
	b.look(1280, 1100, "light")

	// A snapshot, denied and agreed to.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b.click("[data-name=life]")
	b.until("document.querySelector('#name').textContent === 'life' && generations.length > 0")
	b.click("#snapshot")
	b.until("document.querySelector('#ask').open")
	b.press("Enter") // on Cancel, where the focus is
	b.until("!document.querySelector('#ask').open")
	b.click("#snapshot")
	b.click("#yes")
	b.until("/^generation \\d+ of life is durable$/.test(document.querySelector('#note').textContent)")

	// Stop and start.
	b.click("#stop")
	b.click("#yes")
	b.until("/^stopped/.test(document.querySelector('#state').textContent)")
	if p := s.process(ctx, "life"); p.State != daemon.StateStopped {
		t.Errorf("life is %s after stop", p.State)
	}
	// The archive is what the generation says of itself.
	a, err := s.client.Archive(ctx, "life", 0)
	s.must(err)
	var pages, new uint64
	for _, r := range a.Runs {
		if r[0] != pages {
			t.Errorf("a run begins with page %d, not %d", r[0], pages)
		}
		pages += r[1]
		if r[2] == a.Generation.Number {
			new += r[1]
		}
	}
	if pages != a.Generation.Pages || new != a.Generation.PagesNew || pages == 0 {
		t.Errorf("the archive has %d pages, %d of them new, the generation %d and %d", pages, new, a.Generation.Pages, a.Generation.PagesNew)
	}
	if _, err := s.client.Archive(ctx, "life", 1<<40); !errors.Is(err, daemon.CodeNotFound) {
		t.Errorf("the archive of no generation: %v", err)
	}
	// While it is stopped its generations stay: fork one, and go back to one.
	b.eval("document.querySelector('#line').focus()")
	b.press("Home")
	b.until("archive && archive.generation.number === chosen && chosen === generations[0].number")
	b.click("#fork")
	b.until("document.querySelector('#word').value === 'life-2'")
	b.click("#yes")
	s.names = append(s.names, "life-2")
	b.until("document.querySelector('[data-name=life-2]')")
	if list, err := s.client.Generations(ctx, "life-2"); err != nil || len(list) != 1 {
		t.Errorf("the fork has %d generations, %v", len(list), err)
	}
	first := b.eval("generations[0].number")
	b.click("#rollback")
	b.click("#yes")
	b.until("/goes on from generation " + first + ",/.test(document.querySelector('#note').textContent)")
	list, err := s.client.Generations(ctx, "life")
	s.must(err)
	if newest := list[len(list)-1]; fmt.Sprint(newest.Base) != first {
		t.Errorf("generation %d is based on %d, not on %s", newest.Number, newest.Base, first)
	}
	b.click("#start")
	b.click("#yes")
	b.until("/^(running|parked)/.test(document.querySelector('#state').textContent)")

	// A socket that the guest has; an error of the daemon is told; a name is text, whatever is in it.
	b.click("[data-name=kv]")
	b.until("/listener/.test(document.querySelector('#sockets').textContent)")
	b.click("#fork")
	b.until("document.querySelector('#ask').open")
	b.eval("document.querySelector('#word').value = '<img src=x onerror=alert(1)>/'")
	b.click("#yes")
	b.until("/is no name for a process/.test(document.querySelector('#note').textContent)")
	if n := b.eval("document.querySelectorAll('img').length"); n != "0" {
		t.Errorf("the page has %s pictures", n)
	}

	// The daemon dies, the page says so, and finds the next one.
	s.must(s.cmd.Process.Kill())
	_ = s.cmd.Wait() // it was killed
	b.until("document.querySelector('#live').textContent === 'not connected'")
	s.start()
	b.until("document.querySelector('#live').textContent === 'live'")
	if c := b.complaints(); len(c) > 0 {
		t.Errorf("the page complains: %q", c)
	}
}

// TestDashboardToken wants the token to be asked for, and taken from the address, where it does not stay.
func TestDashboardToken(t *testing.T) {
	const token = "0123456789abcdef-of-a-test"
	s, address := newDashboard(t, token)
	s.dropExample("life")
	b := newBrowser(t)
	b.look(800, 600, "dark")
	b.open("http://" + address + "/")
	b.until("document.querySelector('#ask').open && !document.querySelector('#word').hidden")
	b.shoot("token")
	if n := b.eval("document.querySelectorAll('#list button').length"); n != "0" {
		t.Errorf("without a token the page shows %s processes", n)
	}
	b.eval("document.querySelector('#word').value = " + quoteJS(token))
	b.click("#yes")
	b.until("document.querySelector('[data-name=life]')")
	b.eval("sessionStorage.clear()")
	b.open("about:blank")
	b.open("http://" + address + "/#" + token)
	b.until("document.querySelector('[data-name=life]') && location.hash === ''")
}
