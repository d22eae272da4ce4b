package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"
)

//go:embed index.html
var page []byte

// Bounds of the server. Who can reach its address may be anybody.
const (
	maxRequests  = 64 // at a time
	maxHeaders   = 16 << 10
	slowest      = 10 * time.Second // for a client to send its request
	shutdownTime = time.Second
)

// Options are what a dashboard needs.
type Options struct {
	// API is the control API, which is asked as the daemon's own user.
	API http.Handler
	// Loopback says that only the machine itself can reach the address. Where it is not set there has to be a token.
	Loopback bool
	// Token is what a browser has to show; empty for nothing.
	Token string
}

// requests are those of the control API that the page needs. Others, such as the removal of a process, are for its socket.
var requests = []string{
	"GET /v1/info",
	"GET /v1/processes",
	"GET /v1/processes/{name}",
	"GET /v1/processes/{name}/generations",
	"GET /v1/processes/{name}/archive",
	"GET /v1/processes/{name}/logs",
	"POST /v1/processes/{name}/snapshot",
	"POST /v1/processes/{name}/stop",
	"POST /v1/processes/{name}/start",
	"POST /v1/processes/{name}/rollback",
	"POST /v1/processes/{name}/fork",
}

// Handler serves the page at /, requests to the control API below /v1/, and events at /v1/events as server-sent ones. It
// may be used concurrently.
func Handler(o Options) http.Handler {
	g := newGuard(o)
	policy := contentPolicy(page)
	places := make(chan struct{}, maxRequests)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = rw.Write(page) // who asked may have gone
	})
	for _, pattern := range requests {
		mux.Handle(pattern, o.API)
	}
	mux.HandleFunc("GET /v1/events", func(rw http.ResponseWriter, r *http.Request) {
		o.API.ServeHTTP(&eventWriter{ResponseWriter: rw}, r)
	})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if status, why := g.refusal(r, r.URL.Path == "/"); status != 0 {
			refuse(rw, status, why)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			refuse(rw, http.StatusServiceUnavailable, "too many requests at a time")
			return
		}
		mux.ServeHTTP(rw, r)
	})
}

// contentPolicy allows the page its own script and style, by their sums, requests to where it came from, and nothing else.
func contentPolicy(page []byte) string {
	sums := func(tag string) string {
		var list []string
		for _, m := range regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllSubmatch(page, -1) {
			sum := sha256.Sum256(m[1])
			list = append(list, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		}
		return strings.Join(list, " ")
	}
	return "default-src 'none'; script-src " + sums("script") + "; style-src " + sums("style") +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// eventWriter turns events that are a line of JSON each into server-sent ones.
type eventWriter struct {
	http.ResponseWriter
	begun bool
}

func (w *eventWriter) begin() {
	// An error is an answer of its own kind.
	if !w.begun && w.Header().Get("Content-Type") == "application/x-ndjson" {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	w.begun = true
}

func (w *eventWriter) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

// Write is given whole lines.
func (w *eventWriter) Write(p []byte) (int, error) {
	w.begin()
	if w.Header().Get("Content-Type") != "text/event-stream" {
		return w.ResponseWriter.Write(p)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(p) {
		fmt.Fprintf(&out, "data: %s\n\n", bytes.TrimSuffix(line, []byte("\n")))
	}
	if _, err := w.ResponseWriter.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// FlushError sends what there is, the header if nothing else.
func (w *eventWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *eventWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Serve answers on l, which it closes, until ctx ends, and then returns nil once the answers under way are done or a second
// has passed.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: slowest, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeaders,
		ErrorLog:    log.New(io.Discard, "", 0), // what clients do wrong is told to them
		BaseContext: func(net.Listener) context.Context { return streams },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the dashboard on %s: %w", l.Addr(), errors.Join(err, server.Close()))
	case <-ctx.Done():
	}
	endStreams()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		_ = server.Close() // who has not read by now has lost
	}
	<-ended
	return nil
}
