//go:build slow

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium with one page. It is spoken to over a pair of pipes, in Chromium's DevTools protocol.
type browser struct {
	t       *testing.T
	to      *os.File
	session string
	mu      sync.Mutex
	next    int
	answers map[int]chan json.RawMessage
	said    []string // what the page logged, and what it threw
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	ours, theirs := pipe(t), pipe(t)
	cmd := exec.Command("chromium", "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
		"--user-data-dir="+filepath.Join(t.TempDir(), "profile"), "about:blank")
	cmd.ExtraFiles = []*os.File{ours[0], theirs[1]} // its descriptors 3 and 4
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ours[0].Close()
	theirs[1].Close()
	b := &browser{t: t, to: ours[1], answers: map[int]chan json.RawMessage{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(theirs[0])
	}()
	t.Cleanup(func() {
		b.call("", "Browser.close", nil)
		stuck := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it is asked for its page only
		stuck.Stop()
		<-read
	})
	var target struct{ TargetID string }
	b.get(b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}), &target)
	var attached struct{ SessionID string }
	b.get(b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}), &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(b.session, domain+".enable", nil)
	}
	return b
}

func pipe(t *testing.T) [2]*os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return [2]*os.File{r, w}
}

// read hands out answers, and keeps what went wrong in the page.
func (b *browser) read(from *os.File) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return // it has ended
		}
		var m struct {
			ID             int
			Method         string
			Result, Params json.RawMessage
			Error          *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			if m.Error != nil {
				m.Result, _ = json.Marshal(map[string]string{"error": m.Error.Message}) // a string can be
			}
			b.answers[m.ID] <- m.Result
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded":
			b.said = append(b.said, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// call asks for something and returns the answer.
func (b *browser) call(session, method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	b.mu.Lock()
	b.next++
	id, answer := b.next, make(chan json.RawMessage, 1)
	b.answers[id] = answer
	b.mu.Unlock()
	m := map[string]any{"id": id, "method": method, "params": params}
	if params == nil {
		m["params"] = map[string]any{}
	}
	if session != "" {
		m["sessionId"] = session
	}
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	if err != nil {
		b.t.Errorf("%s: %v", method, err)
		return nil
	}
	select {
	case r := <-answer:
		return r
	case <-time.After(2 * patience):
		b.t.Errorf("%s is not answered", method)
		return nil
	}
}

func (b *browser) get(answer json.RawMessage, to any) {
	b.t.Helper()
	if err := json.Unmarshal(answer, to); err != nil {
		b.t.Fatalf("%v: %s", err, answer)
	}
}

// open goes to a page and waits until it is there.
func (b *browser) open(url string) {
	b.t.Helper()
	b.call(b.session, "Page.navigate", map[string]any{"url": url})
	plain, _, _ := strings.Cut(url, "#")
	b.until("document.readyState === 'complete' && location.href.startsWith(" + quoteJS(plain) + ")")
}

// eval returns the value of an expression of the page, as text.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.get(b.call(b.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}), &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// until waits for an expression of the page to be true.
func (b *browser) until(expression string) {
	b.t.Helper()
	for limit := time.Now().Add(2 * patience); b.eval("Boolean("+expression+")") != "true"; {
		if time.Now().After(limit) {
			b.t.Fatalf("waited for %s; the page says\n%s", expression, b.eval("document.body.innerText"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// click presses the mouse on the middle of an element, once it can be.
func (b *browser) click(selector string) {
	b.t.Helper()
	find := "document.querySelector(" + quoteJS(selector) + ")"
	b.until(find + " && !" + find + ".disabled && " + find + ".getClientRects().length")
	var at struct{ X, Y float64 }
	b.get(json.RawMessage(b.eval("(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"+
		" return JSON.stringify({x: r.x + r.width / 2, y: r.y + r.height / 2}) })("+find+")")), &at)
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		b.call(b.session, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1})
	}
}

// press presses a key.
func (b *browser) press(key string) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		p := map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": keyCodes[key]}
		if key == "Enter" && kind == "keyDown" {
			p["text"] = "\r"
		}
		b.call(b.session, "Input.dispatchKeyEvent", p)
	}
}

// keyCodes are numbers without which some keys do nothing.
var keyCodes = map[string]int{"Tab": 9, "Enter": 13, "Escape": 27, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}

// look sets the size of the window and the colours that its user likes.
func (b *browser) look(width, height int, scheme string) {
	b.t.Helper()
	b.call(b.session, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	b.call(b.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// shoot writes a picture of the whole page below $PERDURE_SCREENSHOTS, if that is set.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("PERDURE_SCREENSHOTS")
	if dir == "" {
		return
	}
	var picture struct{ Data string }
	b.get(b.call(b.session, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}), &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// complaints returns what went wrong in the page, but for answers of the daemon that are errors.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for _, s := range b.said {
		if !strings.Contains(s, `"source":"network"`) {
			list = append(list, s)
		}
	}
	return list
}

func quoteJS(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can be
	}
	return string(b)
}
