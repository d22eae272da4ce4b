package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the server. Who can reach its address may be anybody.
const (
	maxScrapes    = 4
	scrapeTime    = 10 * time.Second
	headerTime    = 5 * time.Second
	answerTime    = 30 * time.Second
	idleTime      = time.Minute
	maxHeaders    = 16 << 10 // bytes
	maxConnecting = 64       // connections at a time; more wait
	shutdownTime  = time.Second
)

// Handler serves /metrics, /healthz and /readyz, and a line that says so at /. Version is that of
// Perdure. Each handler has a registry of its own.
func Handler(source Source, version string) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newCollector(source, version),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTime, EnableOpenMetrics: true,
	}))
	mux.HandleFunc("GET /healthz", check(source.Alive))
	mux.HandleFunc("GET /readyz", check(source.Ready))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "perdure: /metrics /healthz /readyz")
	})
	return mux
}

// check answers 200 and ok, or 503 and what is wrong.
func check(question func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := question(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ok")
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // whoever asked may have gone
}

// Serve answers on l, which it closes, until ctx ends, and then returns nil once the answers under
// way are done or a second has passed.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       headerTime,
		WriteTimeout:      answerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeaders,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(newGate(l, maxConnecting)) }()
	select {
	case err := <-ended:
		_ = server.Close() // it is over anyway
		return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		_ = server.Close() // what is left has had its time
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
	}
	return nil
}
