package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"perdure/config"
	"perdure/runtime"
)

const (
	maxClients = 64      // connections at once
	maxStreams = 32      // of them those that do not end by themselves
	maxRequest = 1 << 20 // bytes of a body
	maxHeader  = 16 << 10
	// slowest is how long a client may take to send its request or to take its answer.
	slowest = 10 * time.Second
)

// server answers the requests of the control socket. While the guest runs nothing in it may stop the world
// (see package runtime), which net/http and encoding/json do not.
type server struct {
	w       *Worker
	http    *http.Server
	socket  net.Listener
	suspend context.CancelFunc // asks the guest to stop

	ready chan struct{} // closed when process is set
	ended chan struct{} // closed when the guest has returned
	done  chan struct{} // closed when outcome is set and durable

	process *runtime.Process
	outcome Outcome
	once    sync.Once // closes ended

	garbage  garbage
	slots    chan struct{}  // one for each stream
	attached sync.WaitGroup // the consoles, which package http knows no more of
}

// upgradeConsole is the protocol that a console speaks.
const upgradeConsole = "perdure-console"

func newServer(w *Worker, h *hold, suspend context.CancelFunc) *server {
	s := &server{
		w: w, suspend: suspend, socket: newLimited(h.socket, maxClients),
		ready: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}),
		slots: make(chan struct{}, maxStreams),
	}
	mux := http.NewServeMux()
	handle := func(pattern string, f func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			err := readBody(rw, r)
			if err == nil {
				err = f(rw, r)
			}
			if err != nil {
				writeError(rw, err)
			}
			s.garbage.look(s.collect)
		})
	}
	handle("GET /v1/status", s.status)
	handle("GET /v1/sockets", s.sockets)
	handle("POST /v1/snapshot", s.snapshot)
	handle("POST /v1/suspend", s.stop)
	handle("POST /v1/settings", s.settings)
	handle("POST /v1/call", s.call)
	handle("GET /v1/events", s.events)
	handle("POST /v1/console", s.console)
	handle("/", func(http.ResponseWriter, *http.Request) error {
		return newError(CodeRequest, "there is no such request")
	})
	s.http = &http.Server{
		// Without a ReadTimeout, which would end every request that takes longer; see readBody.
		Handler: mux, ReadHeaderTimeout: slowest, IdleTimeout: slowest, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0), // what clients do wrong is told to them
	}
	return s
}

// serve answers until end is called.
func (s *server) serve() {
	_ = s.http.Serve(s.socket) // the only error of a socket that nobody else closes is that end was called
}

// running says that the process is there to be asked.
func (s *server) running(p *runtime.Process) {
	s.process = p
	close(s.ready)
}

// over says that the guest has returned.
func (s *server) over() { s.once.Do(func() { close(s.ended) }) }

// end tells the outcome to who waits for it, and returns when all clients have their answers or their time is up.
func (s *server) end(out Outcome, within time.Duration) {
	s.outcome = out
	s.over()
	close(s.done)
	s.w.consoles.end(within)
	defer s.attached.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // who has not read by now has lost
	}
}

// collect lets the garbage be collected, which only happens at cuts, where they are not made anyway.
func (s *server) collect() {
	if p, err := s.guest(); err == nil && s.w.current().Snapshot.Every == 0 {
		_, _ = p.Snapshot(context.Background()) // a failure is an event
	}
}

// guest returns the running process, or says why there is none.
func (s *server) guest() (*runtime.Process, error) {
	select {
	case <-s.ended:
		return nil, newError(CodeEnded, "%s has ended", s.w.spec.Name)
	default:
	}
	select {
	case <-s.ready:
		return s.process, nil
	default:
		return nil, newError(CodeStarting, "%s is starting", s.w.spec.Name)
	}
}

func (s *server) status(rw http.ResponseWriter, _ *http.Request) error {
	st := s.w.state.snapshot()
	if p, err := s.guest(); err == nil {
		now := p.Status()
		st.Program, st.MemoryBytes, st.Generation, st.Reactor = now.Program, now.MemoryBytes, now.Generation, now.Reactor
		st.Sockets, st.Journal = now.Sockets, now.Journal
		if st.Phase == PhaseRunning && now.Waiting {
			st.Phase = PhaseParked
		}
	}
	return writeJSON(rw, st)
}

// MaxSockets bounds the sockets of an answer.
const MaxSockets = 4096

func (s *server) sockets(rw http.ResponseWriter, _ *http.Request) error {
	p, err := s.guest()
	if err != nil {
		return err
	}
	list, err := p.Sockets()
	if err != nil {
		return err
	}
	list.Sockets = list.Sockets[:min(len(list.Sockets), MaxSockets)]
	return writeJSON(rw, list)
}

func (s *server) snapshot(rw http.ResponseWriter, r *http.Request) error {
	p, err := s.guest()
	if err != nil {
		return err
	}
	info, err := p.Snapshot(r.Context())
	switch {
	case errors.Is(err, runtime.ErrEnded):
		return newError(CodeEnded, "%s has ended", s.w.spec.Name)
	case err != nil:
		return newError(CodeNotSaved, "%v", err)
	}
	return writeJSON(rw, cleanInfo(info))
}

func (s *server) stop(rw http.ResponseWriter, r *http.Request) error {
	// Where the last snapshot has failed, the next may too, and what came after the one before would be lost with the
	// worker: then it is better that it runs on.
	if p, err := s.guest(); err == nil && s.w.state.snapshot().LastFailure != "" {
		if _, err := p.Snapshot(r.Context()); err != nil && !errors.Is(err, runtime.ErrEnded) {
			return newError(CodeNotSaved, "%s runs on, since it cannot be saved: %v", s.w.spec.Name, err)
		}
	}
	s.w.state.set(func(st *Status) { st.Phase = PhaseStopping })
	s.suspend()
	select {
	case <-s.done:
	case <-r.Context().Done():
		return nil // nobody waits for the answer
	}
	if s.outcome.Kind == OutcomeError {
		return newError(CodeNotSaved, "%s", s.outcome.Error)
	}
	return writeJSON(rw, s.outcome)
}

func (s *server) call(rw http.ResponseWriter, r *http.Request) error {
	var c call
	if err := readJSON(r, &c); err != nil {
		return err
	}
	p, err := s.guest()
	if err != nil {
		return err
	}
	results, err := p.Call(r.Context(), c.Export, c.Args)
	if err != nil {
		return callError(err)
	}
	return writeJSON(rw, called{results})
}

// call is a request to call an export, and called the answer.
type (
	call struct {
		Export string   `json:"export"`
		Args   []string `json:"args"`
	}
	called struct {
		Results []runtime.Value `json:"results"`
	}
)

// callError gives an error of a call its code.
func callError(err error) error {
	var trap *runtime.TrapError
	var noExport *runtime.NoExportError
	var arguments *runtime.ArgumentError
	var notSaved *runtime.NotSavedError
	e := newError(CodeInternal, "%v", err)
	switch {
	case errors.As(err, &notSaved):
		e.Code, e.Results = CodeNotSaved, notSaved.Results
	case errors.As(err, &trap):
		e.Code, e.Stack = CodeTrap, trap.Stack
	case errors.As(err, &noExport):
		e.Code = CodeNoExport
	case errors.As(err, &arguments):
		e.Code = CodeArguments
	case errors.Is(err, runtime.ErrNotReactor):
		e.Code = CodeNotReactor
	case errors.Is(err, runtime.ErrCallSuspended):
		e.Code = CodeSuspended
	case errors.Is(err, runtime.ErrEnded), errors.Is(err, runtime.ErrSuspended):
		e.Code = CodeEnded
	}
	return e
}

func (s *server) settings(rw http.ResponseWriter, r *http.Request) error {
	var c config.ReloadableProcess
	if err := readJSON(r, &c); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return newError(CodeRequest, "%v", err)
	}
	if _, err := s.guest(); errors.Is(err, CodeEnded) {
		return err
	}
	if err := s.w.apply(c); err != nil {
		return err
	}
	rw.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) events(rw http.ResponseWriter, r *http.Request) error {
	if !s.stream() {
		return errBusy
	}
	defer s.streamed()
	l, forget := s.w.state.listen()
	defer forget()
	c := http.NewResponseController(rw)
	rw.Header().Set("Content-Type", "application/x-ndjson")
	rw.WriteHeader(http.StatusOK)
	if err := c.Flush(); err != nil {
		return nil // it is gone
	}
	e := json.NewEncoder(rw)
	for {
		var next Event
		select {
		case next = <-l.c:
		case <-r.Context().Done():
			return nil
		case <-s.done:
			// What happened at last is in the queue already.
			select {
			case next = <-l.c:
			default:
				return nil
			}
		}
		// The server's timeout is for one answer, and this one does not end.
		if c.SetWriteDeadline(time.Now().Add(slowest)) != nil || e.Encode(next) != nil || c.Flush() != nil {
			return nil
		}
	}
}

func (s *server) console(rw http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Upgrade") != upgradeConsole {
		return newError(CodeRequest, "a console needs the header Upgrade: %s", upgradeConsole)
	}
	if _, err := s.guest(); errors.Is(err, CodeEnded) {
		return err
	}
	if !s.stream() {
		return errBusy
	}
	defer s.streamed()
	s.attached.Add(1)
	defer s.attached.Done()
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close() // serve has said all
	if conn.SetDeadline(time.Time{}) != nil {
		return nil // it is gone, here and below
	}
	const welcome = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeConsole + "\r\n\r\n"
	s.w.consoles.serve(conn.(*limitedConn).UnixConn, welcome, buffered.Reader)
	return nil
}

var errBusy = newError(CodeBusy, "there are %d consoles and readers of events already", maxStreams)

// stream takes a slot for a stream, if there is one, and streamed gives it back: else streams could take all
// connections, and nobody could ask any more.
func (s *server) stream() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *server) streamed() { <-s.slots }

// readBody reads the body of a request, which has to come soon, and puts it in the place of the connection.
func readBody(rw http.ResponseWriter, r *http.Request) error {
	c := http.NewResponseController(rw)
	if err := c.SetReadDeadline(time.Now().Add(slowest)); err != nil {
		return err
	}
	b, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		return newError(CodeRequest, "the body cannot be read: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return c.SetReadDeadline(time.Time{})
}

// readJSON reads the body of a request.
func readJSON(r *http.Request, v any) error {
	// What a newer daemon says beside is let pass: it has settings that this worker does not have.
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
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
	var e *Error
	if !errors.As(err, &e) {
		e = newError(CodeInternal, "%v", err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		b = []byte(`{"error": "an error that cannot be told", "code": "internal"}`)
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(e.Code.status())
	_, _ = rw.Write(append(b, '\n'))
}

// limited is a listener with a bound on its connections: more wait to be accepted.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimited(l net.Listener, n int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{UnixConn: c.(*net.UnixConn), slots: l.slots}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	*net.UnixConn
	slots chan struct{}
	once  sync.Once
}

func (c *limitedConn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}
