package dashboard

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

const secret = "a-token-of-the-test"

// api answers every request with what it was, and events with two of them.
var api = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/events" && r.FormValue("process") == "none" {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusNotFound)
		fmt.Fprintln(rw, `{"error": "no"}`)
		return
	}
	if r.URL.Path == "/v1/events" {
		rw.Header().Set("Content-Type", "application/x-ndjson")
		_ = http.NewResponseController(rw).Flush() // a recorder can
		fmt.Fprint(rw, "{\"a\": 1}\n{\"b\": 2}\n")
		return
	}
	fmt.Fprintf(rw, "%s %s", r.Method, r.URL)
})

// TestGuard tries requests of our own page, of other pages in the same browser, and of who is no browser.
func TestGuard(t *testing.T) {
	command := map[string]string{commandHeader: "1"}
	with := func(more ...string) map[string]string {
		m := map[string]string{commandHeader: "1"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, c := range []struct {
		claim        string
		loopback     bool
		token        string
		method, path string
		host         string
		header       map[string]string
		want         int
	}{
		{"the page", true, "", "GET", "/", "127.0.0.1:1", nil, 200},
		{"the page by name", true, "", "GET", "/", "localhost:1", nil, 200},
		{"the page by IPv6", true, "", "GET", "/", "[::1]:1", nil, 200},
		{"the page without a port", true, "", "GET", "/", "[::1]", nil, 200},
		{"a link to the page from elsewhere", true, "", "GET", "/", "localhost:1", map[string]string{"Sec-Fetch-Site": "cross-site"}, 200},
		{"a name that was made to point here", true, "", "GET", "/v1/processes", "evil.example:1", nil, 403},
		{"a name that begins like ours", true, "", "GET", "/v1/processes", "127.0.0.1.evil.example", nil, 403},
		{"a name that ends like ours", true, "", "GET", "/v1/processes", "evil.localhost:1", nil, 403},
		{"no name", true, "", "GET", "/v1/processes", "", nil, 403},
		{"reading", true, "", "GET", "/v1/processes", "localhost:1", nil, 200},
		{"reading from another page", true, "", "GET", "/v1/processes", "localhost:1", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"reading from another port", true, "", "GET", "/v1/processes", "localhost:1", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"a command", true, "", "POST", "/v1/processes/a/stop", "localhost:1", with("Origin", "http://localhost:1", "Sec-Fetch-Site", "same-origin"), 200},
		{"a command of a program", true, "", "POST", "/v1/processes/a/stop", "localhost:1", command, 200},
		{"a form of another page", true, "", "POST", "/v1/processes/a/stop", "localhost:1", map[string]string{"Origin": "http://evil.example"}, 403},
		{"a form without an origin", true, "", "POST", "/v1/processes/a/stop", "localhost:1", nil, 403},
		{"a command from another origin", true, "", "POST", "/v1/processes/a/stop", "localhost:1", with("Origin", "http://evil.example"), 403},
		{"a command from another port", true, "", "POST", "/v1/processes/a/stop", "localhost:1", with("Origin", "http://localhost:2"), 403},
		{"a command from a file", true, "", "POST", "/v1/processes/a/stop", "localhost:1", with("Origin", "null"), 403},
		{"what another origin asks beforehand", true, "", "OPTIONS", "/v1/processes/a/stop", "localhost:1", map[string]string{"Origin": "http://evil.example"}, 403},
		{"what the page does not need", true, "", "DELETE", "/v1/processes/a", "localhost:1", command, 405},
		{"nor this", true, "", "POST", "/v1/processes/a/purge", "localhost:1", command, 404},
		{"nor that", true, "", "POST", "/v1/reload", "localhost:1", command, 404},
		{"the page, with a token set", false, secret, "GET", "/", "host:1", nil, 200},
		{"no token", false, secret, "GET", "/v1/processes", "host:1", nil, 401},
		{"a wrong token", false, secret, "GET", "/v1/processes", "host:1", map[string]string{"Authorization": "Bearer x"}, 401},
		{"an empty token", false, secret, "GET", "/v1/processes", "host:1", map[string]string{"Authorization": "Bearer "}, 401},
		{"a token in another form", false, secret, "GET", "/v1/processes", "host:1", map[string]string{"Authorization": secret}, 401},
		{"the token", false, secret, "GET", "/v1/processes", "host:1", map[string]string{"Authorization": "Bearer " + secret}, 200},
		{"a command with the token alone", false, secret, "POST", "/v1/processes/a/stop", "host:1", map[string]string{"Authorization": "Bearer " + secret}, 403},
		{"a command with all", false, secret, "POST", "/v1/processes/a/stop", "host:1", with("Authorization", "Bearer "+secret), 200},
		{"a token on this machine", true, secret, "GET", "/v1/processes", "localhost:1", nil, 401},
		{"events need it too", true, secret, "GET", "/v1/events", "localhost:1", nil, 401},
	} {
		h := Handler(Options{API: api, Loopback: c.loopback, Token: c.token})
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host = c.host
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		rw := httptest.NewRecorder()
		h.ServeHTTP(rw, r)
		if rw.Code != c.want {
			t.Errorf("%s: got %d, want %d: %s", c.claim, rw.Code, c.want, rw.Body)
		}
		if rw.Header().Get("Content-Security-Policy") == "" || rw.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: headers %v", c.claim, rw.Header())
		}
	}
}

// TestEvents wants events as a browser takes them, and errors as they are.
func TestEvents(t *testing.T) {
	h := Handler(Options{API: api, Loopback: true})
	for _, c := range []struct {
		query, kind, want string
		status            int
	}{
		{"", "text/event-stream", "data: {\"a\": 1}\n\ndata: {\"b\": 2}\n\n", 200},
		{"?process=none", "application/json", "{\"error\": \"no\"}\n", 404},
	} {
		r := httptest.NewRequest("GET", "/v1/events"+c.query, nil)
		r.Host = "localhost"
		rw := httptest.NewRecorder()
		h.ServeHTTP(rw, r)
		if rw.Code != c.status || rw.Header().Get("Content-Type") != c.kind || rw.Body.String() != c.want {
			t.Errorf("%q: got %d %s %q", c.query, rw.Code, rw.Header().Get("Content-Type"), rw.Body)
		}
	}
}

// TestPolicy wants the page to consist of what its policy allows.
func TestPolicy(t *testing.T) {
	policy := contentPolicy(page)
	if strings.Count(policy, "'sha256-") != 2 || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %s", policy)
	}
	for claim, pattern := range map[string]string{
		"a handler in the markup": `<[^>]+\son[a-z]+=`, "a style in the markup": `<[^>]+\sstyle=`, "something from elsewhere": `(?:src|href)="(?:https?:)?//`,
		"text as markup": `innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function`,
	} {
		if m := regexp.MustCompile(pattern).Find(page); m != nil {
			t.Errorf("the page has %s: %q", claim, m)
		}
	}
}

// TestServe wants streams to end with the server.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	h := Handler(Options{Loopback: true, API: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/x-ndjson")
		_ = http.NewResponseController(rw).Flush() // it is told by the test's end
		close(begun)
		<-r.Context().Done()
	})})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-begun
	cancel()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Logf("the stream ends with %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	http.DefaultClient.CloseIdleConnections()
}
