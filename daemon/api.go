package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"perdure/daemon/dashboard"
	"perdure/daemon/worker"
)

const (
	maxRequest = 1 << 20 // bytes of a body
	maxHeader  = 16 << 10
	// slowest is how long a client may take to send its request or to take a piece of its answer.
	slowest = 10 * time.Second
)

// server answers the requests of the control API.
type server struct {
	d      *Daemon
	http   *http.Server
	socket net.Listener
	stop   context.CancelFunc // ends streams
}

// listen makes the socket of the control API. One that is left over is replaced.
func listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close() // it was tried only
		return nil, fmt.Errorf("%w: somebody answers at %s", ErrOtherDaemon, path)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("daemon.socket: %s is there, and is no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// Under another name first, so that it never is there with more rights.
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%d.sock", os.Getpid()))
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: temp})
	if err != nil {
		return nil, fmt.Errorf("daemon.socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temp, 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("daemon.socket: %w", err), l.Close(), os.Remove(temp))
	}
	return &namedListener{l, path}, nil
}

// namedListener is a listener whose socket has got another name since it was bound.
type namedListener struct {
	*net.UnixListener
	path string
}

func (l *namedListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: l.path} }

// Close closes the socket and removes its name.
func (l *namedListener) Close() error {
	return errors.Join(os.Remove(l.path), l.UnixListener.Close())
}

type peerKey struct{}

func newServer(d *Daemon, l net.Listener) *server {
	s := &server{d: d, socket: l}
	ctx, stop := context.WithCancel(d.ctx)
	s.stop = stop
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: slowest, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog:    log.New(io.Discard, "", 0), // what clients do wrong is told to them
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	return s
}

// peerOf returns the user at the other end; -1 if that cannot be told.
func peerOf(c net.Conn) int {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1
	}
	uid := -1
	_ = raw.Control(func(fd uintptr) { // without an answer it is nobody
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid
}

func (s *server) serve() {
	_ = s.http.Serve(s.socket) // the only error of a socket that nobody else closes is that close was called
}

// close ends all requests; those under way get a moment to be answered.
func (s *server) close() {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // who has not read by now has lost
	}
}

// handler is the API.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			if uid, _ := r.Context().Value(peerKey{}).(int); uid != 0 && uid != os.Geteuid() {
				writeError(rw, newError(CodeForbidden, "user %d may not; only user %d and root may", uid, os.Geteuid()))
				return
			}
			r.Body = http.MaxBytesReader(rw, r.Body, maxRequest)
			if err := f(rw, r); err != nil {
				writeError(rw, err)
			}
		})
	}
	d := s.d
	handle("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(rw, "ok\n")
		return err
	})
	handle("GET /v1/info", func(rw http.ResponseWriter, _ *http.Request) error { return writeJSON(rw, d.info()) })
	handle("GET /v1/processes", func(rw http.ResponseWriter, r *http.Request) error { return writeJSON(rw, d.list(r.Context())) })
	handle("GET /v1/processes/{name}", func(rw http.ResponseWriter, r *http.Request) error {
		u, err := d.named(r.PathValue("name"))
		if err != nil {
			return err
		}
		return writeJSON(rw, d.inspect(r.Context(), u))
	})
	handle("DELETE /v1/processes/{name}", func(rw http.ResponseWriter, r *http.Request) error {
		return done(rw, d.remove(r.Context(), r.PathValue("name")))
	})
	handle("POST /v1/processes/{name}/start", func(rw http.ResponseWriter, r *http.Request) error {
		var b freshBody
		if err := readJSON(r, &b); err != nil {
			return err
		}
		return done(rw, d.start(r.Context(), r.PathValue("name"), b.Fresh))
	})
	handle("POST /v1/processes/{name}/stop", func(rw http.ResponseWriter, r *http.Request) error {
		return done(rw, d.stop(r.Context(), r.PathValue("name")))
	})
	handle("POST /v1/processes/{name}/restart", func(rw http.ResponseWriter, r *http.Request) error {
		var b freshBody
		if err := readJSON(r, &b); err != nil {
			return err
		}
		return done(rw, d.restart(r.Context(), r.PathValue("name"), b.Fresh))
	})
	handle("POST /v1/processes/{name}/snapshot", func(rw http.ResponseWriter, r *http.Request) error {
		info, err := d.snapshot(r.Context(), r.PathValue("name"))
		return answer(rw, describeGeneration(info), err)
	})
	handle("POST /v1/snapshot", func(rw http.ResponseWriter, r *http.Request) error {
		return writeJSON(rw, d.snapshotAll(r.Context()))
	})
	s.handleSaved(handle)
	handle("GET /v1/processes/{name}/logs", s.logs)
	handle("POST /v1/processes/{name}/attach", s.attach)
	handle("POST /v1/processes/{name}/call", s.call)
	handle("GET /v1/events", s.events)
	handle("POST /v1/reload", func(rw http.ResponseWriter, _ *http.Request) error {
		out, err := d.Reload()
		return answer(rw, out, err)
	})
	handle("/", func(_ http.ResponseWriter, r *http.Request) error {
		return newError(CodeRequest, "there is no request %s %s", r.Method, r.URL.Path)
	})
	return mux
}

// asOwner asks a handler of the API as the daemon's own user does.
func asOwner(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), peerKey{}, os.Geteuid())))
	})
}

// serveDashboard serves the page for browsers, if that is wanted, until ctx is done.
func (d *Daemon) serveDashboard(ctx context.Context, api http.Handler) error {
	c := d.config().Dashboard
	if c.Address == "" {
		return nil
	}
	l, err := net.Listen("tcp", string(c.Address))
	if err != nil {
		return fmt.Errorf("dashboard.address: %w", err)
	}
	d.log.Info().Str("address", l.Addr().String()).Bool("token", c.Token != "").Msg("the dashboard is served")
	h := dashboard.Handler(dashboard.Options{API: asOwner(api), Loopback: c.Address.Loopback(), Token: string(c.Token)})
	d.group.Go(func() {
		if err := dashboard.Serve(ctx, l, h); err != nil {
			d.log.Error().Err(err).Msg("the dashboard is not served any more")
		}
	})
	return nil
}

// freshBody is the body of start and restart.
type freshBody struct {
	Fresh bool `json:"fresh"`
}

func (d *Daemon) info() Info {
	c := d.config().Daemon
	d.mu.Lock()
	n := len(d.units)
	d.mu.Unlock()
	return Info{
		Version: d.opt.Version, PID: os.Getpid(), Started: d.started,
		StateDir: c.StateDir, ModulesDir: c.ModulesDir, LogsDir: c.LogsDir, Processes: n,
	}
}

// logs streams the output of a process.
func (s *server) logs(rw http.ResponseWriter, r *http.Request) error {
	u, err := s.d.named(r.PathValue("name"))
	if err != nil {
		return err
	}
	lines := -1
	if n := r.FormValue("lines"); n != "" {
		if lines, err = strconv.Atoi(n); err != nil || lines < 0 {
			return newError(CodeRequest, "%q is no number of lines", n)
		}
	}
	rw.Header().Set("Content-Type", "application/octet-stream")
	w := &slowWriter{rw: rw, c: http.NewResponseController(rw)}
	err = copyLogs(r.Context(), w, s.d.logOf(u.name), lines, r.FormValue("follow") == "1", w.flush)
	if err != nil && !w.begun {
		return err
	}
	return nil // the answer has begun
}

// slowWriter gives each piece of an answer its own time, since the answer may have no end.
type slowWriter struct {
	rw    http.ResponseWriter
	c     *http.ResponseController
	begun bool
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.begun = true
	if err := w.c.SetWriteDeadline(time.Now().Add(slowest)); err != nil {
		return 0, err
	}
	return w.rw.Write(p)
}

func (w *slowWriter) flush() error {
	w.begun = true
	return w.c.Flush()
}

// events streams events, as a JSON value each.
func (s *server) events(rw http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("process")
	if name != "" {
		if _, err := s.d.named(name); err != nil {
			return err
		}
	}
	sub := s.d.events.subscribe(name)
	defer sub.close()
	rw.Header().Set("Content-Type", "application/x-ndjson")
	w := &slowWriter{rw: rw, c: http.NewResponseController(rw)}
	if err := w.flush(); err != nil {
		return nil // it is gone
	}
	e := json.NewEncoder(w)
	for {
		var next Event
		select {
		case next = <-sub.c:
		case <-r.Context().Done():
			return nil
		}
		if n := sub.takeLost(); n > 0 {
			lost := Event{Time: time.Now().UTC(), Kind: EventKind(worker.EventLost), Text: fmt.Sprintf("%d events were lost: the reader is too slow", n)}
			if e.Encode(lost) != nil {
				return nil
			}
		}
		if e.Encode(next) != nil || w.flush() != nil {
			return nil
		}
	}
}

// done answers a request that has no answer but whether it was done.
func done(rw http.ResponseWriter, err error) error {
	if err != nil {
		return err
	}
	rw.WriteHeader(http.StatusNoContent)
	return nil
}

// readJSON reads the body of a request; none is as good as an empty object.
func readJSON(r *http.Request, v any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return newError(CodeRequest, "the body cannot be read: %v", err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return newError(CodeRequest, "the body is not understood: %v", err)
	}
	return nil
}

func writeJSON(rw http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write(append(b, '\n')) // who does not read it is gone
	return nil
}

func writeError(rw http.ResponseWriter, err error) {
	e := asError(err)
	b, err := json.Marshal(e)
	if err != nil {
		b = []byte(`{"error": "an error that cannot be told", "code": "internal"}`)
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(e.Code.status())
	_, _ = rw.Write(append(b, '\n'))
}
