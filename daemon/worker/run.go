package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"perdure/internal/durable"
	"perdure/internal/keeper"
	"perdure/memsnap"
	"perdure/runtime"
)

// drain is how long clients may take to read their last answer.
const drain = 2 * time.Second

// Run runs the process until its guest ends or it is suspended: by a request, by SIGINT or SIGTERM, or when ctx is done.
// How it ended is in OutcomeFile when Run returns. The error is a *runtime.LockedError if another worker runs the
// process, which is not disturbed; or says why the outcome could not be written. The caller ends the program after it:
// where a worker is stopped before its guest runs, something may still be compiling.
func (w *Worker) Run(ctx context.Context) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)

	h, err := takeHold(w.spec.Dir, w.spec.Name)
	if err != nil {
		return Outcome{}, err
	}
	defer h.release()
	if w.consoles, err = newConsoles(w.spec.Settings.Console.Stdin); err != nil {
		return Outcome{}, err
	}
	defer w.consoles.close()
	w.output = newOutput(&w.spec, w.consoles, w.state.warn)
	defer w.output.close()
	srv := newServer(w, h, cancel)
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.serve()
	}()
	signalled := make(chan struct{})
	go func() {
		defer close(signalled)
		select {
		case <-stop:
			w.state.set(func(s *Status) { s.Phase = PhaseStopping })
			cancel()
		case <-ctx.Done():
		}
	}()

	out := w.life(ctx, srv)
	out.Version, out.PID, out.Time = SpecVersion, pid(), time.Now()
	err = writeOutcome(w.spec.Dir, &out)
	srv.end(out, drain)
	cancel()
	<-signalled
	<-served
	return out, err
}

// life opens the process, runs it, and closes it.
func (w *Worker) life(ctx context.Context, srv *server) Outcome {
	if w.failed != nil {
		out := *w.failed
		out.Program = w.spec.SHA256
		return out
	}
	src, sum, err := w.source()
	if err != nil {
		return failed(err)
	}
	w.state.set(func(s *Status) { s.Program = sum })
	o := runtimeOptions(&w.spec)
	o.Source, o.Key, o.Events, o.Output, o.Stdin = src, w.key, w.state.event, w.output, w.consoles.guest
	if w.owner != "" {
		o.Sockets = keeper.Place{
			Path: w.spec.Keeper, Owner: w.owner, KeepFor: w.spec.Settings.KeepFor.Std(),
			Report: func(what string) { w.state.warn("%s", what) },
		}.Connect
	}
	if src == nil {
		o.Program = "" // the copy
		if w.spec.SHA256 != "" {
			w.state.warn("%s is gone, going on with the copy that the process keeps", w.spec.Program)
		}
	}
	p, err := openProcess(ctx, o)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return Outcome{Kind: OutcomeSuspended, Generation: newest(w.spec.Dir, w.key), Program: sum} // it was stopped before it began
	}
	if err != nil {
		out := failed(err)
		out.Program = sum
		return out
	}
	if err := w.opened(p); err != nil {
		w.state.warn("settings: %v", err)
	}
	from, _ := p.Restored()
	srv.running(p) // first, so that who sees that it runs can ask it
	w.state.set(func(s *Status) {
		s.RestoredFrom, s.Generation, s.Progress = from, from, ""
		if s.Phase == PhaseStarting {
			s.Phase = PhaseRunning
		}
	})
	res, err := p.Run(ctx)
	w.state.set(func(s *Status) { s.Phase = PhaseStopping })
	srv.over()
	out := outcomeOf(res, err)
	out.Program = sum
	if cerr := p.Close(); cerr != nil && out.Kind != OutcomeError {
		w.state.warn("closing: %v", cerr) // what was saved is saved
	}
	return out
}

// openProcess opens the process, and does not wait for that when ctx is done: compiling cannot be stopped, and
// nothing is lost with it.
func openProcess(ctx context.Context, o runtime.Options) (*runtime.Process, error) {
	type opened struct {
		p   *runtime.Process
		err error
	}
	c := make(chan opened, 1)
	go func() {
		p, err := runtime.Open(ctx, o)
		c <- opened{p, err}
	}()
	select {
	case r := <-c:
		return r.p, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// source reads the program, if it is not the copy in Dir that runs, and checks that it is the one that is meant.
func (w *Worker) source() (src []byte, sum string, err error) {
	if w.program == nil {
		sum, err = w.copySum()
		return nil, sum, err
	}
	defer w.program.Close() // it was read only
	if src, err = io.ReadAll(io.LimitReader(w.program, maxProgram+1)); err != nil {
		return nil, "", fmt.Errorf("read the program: %w", err)
	}
	if len(src) > maxProgram {
		return nil, "", &runtime.RefusedError{Program: w.spec.Program, Err: fmt.Errorf("is larger than %d bytes", maxProgram)}
	}
	if sum = sumOf(src); sum != w.spec.SHA256 {
		return nil, sum, fmt.Errorf("%s is another program by now: SHA-256 %.12s…, was %.12s…", w.spec.Program, sum, w.spec.SHA256)
	}
	return src, sum, nil
}

// copySum returns the SHA-256 of the copy in Dir; it is empty where there is none, about which the runtime knows more.
func (w *Worker) copySum() (string, error) {
	b, err := os.ReadFile(filepath.Join(w.spec.Dir, runtime.ProgramFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sum := sumOf(b)
	if w.spec.SHA256 != "" && sum != w.spec.SHA256 {
		return sum, fmt.Errorf("%s is gone, and the copy that the process keeps is another program: SHA-256 %.12s…, was %.12s…", w.spec.Program, sum, w.spec.SHA256)
	}
	return sum, nil
}

func sumOf(src []byte) string {
	s := sha256.Sum256(src)
	return hex.EncodeToString(s[:])
}

// failed is the outcome of a process that could not run.
func failed(err error) Outcome {
	out := Outcome{Kind: OutcomeError, Error: err.Error()}
	var refused *runtime.RefusedError
	if errors.As(err, &refused) {
		out.Kind = OutcomeRefused
	}
	return out
}

// outcomeOf says how a run ended.
func outcomeOf(res runtime.Result, err error) Outcome {
	out := Outcome{Generation: res.Generation, ExitCode: res.ExitCode}
	var trap *runtime.TrapError
	switch {
	case errors.As(err, &trap):
		out.Kind, out.Error, out.Stack = OutcomeTrapped, trap.What, trap.Stack
	case err != nil && res.Suspended:
		out.Kind = OutcomeError
		out.Error = fmt.Sprintf("it was stopped, but its last moments could not be saved: %v; what was saved before is intact", err)
	case err != nil:
		out.Kind, out.Error = OutcomeError, err.Error()
	case res.Suspended:
		out.Kind = OutcomeSuspended
	default:
		out.Kind = OutcomeEnded
	}
	return out
}

// newest returns the number of the newest generation that is well; 0 if there is none.
func newest(dir string, key []byte) uint64 {
	s, err := runtime.OpenSavedWith(dir, memsnap.Options{Key: key})
	if err != nil {
		return 0
	}
	st, err := s.State(context.Background())
	if err != nil {
		return 0
	}
	return st.Generation.Number
}

func writeOutcome(dir string, out *Outcome) error {
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(durable.OS, filepath.Join(dir, OutcomeFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write how it ended (%s): %w", out.Kind, err)
	}
	return nil
}

func pid() int { return os.Getpid() }
