package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"perdure/daemon/worker"
	"perdure/runtime"
)

const (
	// freshTime is how long a listing waits for what the workers say; from those that are slower it has what they said
	// last.
	freshTime = 30 * time.Millisecond
	// askEvery is how old what a worker has said may be.
	askEvery = 200 * time.Millisecond
	// socketsTime is how long a worker may take to tell of its sockets.
	socketsTime = 2 * time.Second
	// parallelAsks is how many workers a listing asks at the same time.
	parallelAsks = 16
)

// list describes all processes, by name.
func (d *Daemon) list(ctx context.Context) []Process {
	units := d.all()
	d.refresh(ctx, units)
	list := make([]Process, 0, len(units))
	for _, u := range units {
		if v, _, st, _ := u.look(); !v.nothing() {
			list = append(list, u.describe(v, st))
		}
	}
	d.mu.Lock()
	for name, why := range d.unnamed {
		list = append(list, Process{Name: name, State: StateFailed, Program: d.set[name].SHA256, Detail: why, LastError: why})
	}
	d.mu.Unlock()
	slices.SortFunc(list, func(a, b Process) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// refresh asks the workers of units how they are.
func (d *Daemon) refresh(ctx context.Context, units []*unit) {
	ctx, cancel := context.WithTimeout(ctx, freshTime)
	defer cancel()
	todo := make(chan *unit)
	var asking sync.WaitGroup
	for range min(parallelAsks, len(units)) {
		asking.Go(func() {
			for u := range todo {
				if w := u.stale(); w != nil && ctx.Err() == nil {
					u.ask(ctx, w)
				}
			}
		})
	}
	for _, u := range units {
		todo <- u
	}
	close(todo)
	asking.Wait()
}

// stale returns the worker, if it has not been asked lately.
func (u *unit) stale() *worker.Handle {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.asked) < askEvery {
		return nil
	}
	return u.worker
}

// nothing tells whether there is nothing of the process: neither a state nor a program that wants to run.
func (v *view) nothing() bool {
	return v.rec.Removed != "" || v.file == nil && v.problem == "" && v.rec.SHA256 == "" && v.phase == phaseNone
}

// describe is what a listing says of the unit.
func (u *unit) describe(v view, st worker.Status) Process {
	p := Process{
		Name: u.name, Program: v.rec.SHA256, Generation: st.Generation, MemoryBytes: st.MemoryBytes,
		Restarts: v.rec.Restarts, LastError: v.rec.LastError,
	}
	if p.Program == "" && v.file != nil {
		p.Program = v.file.sha256
	}
	p.State, p.Detail = v.state(st, time.Now())
	if v.phase != phaseNone {
		p.Program = v.runs
	}
	if v.phase == phaseUp || v.phase == phaseStopping {
		p.PID, p.Started = st.PID, st.Started
	}
	if p.State == StateEnded {
		p.ExitCode = v.rec.ExitCode
	}
	if p.LastError == "" && v.goal.failed {
		p.LastError = v.goal.why
	}
	return p
}

// state is what the process is, and more about it.
func (v *view) state(st worker.Status, now time.Time) (State, string) {
	switch v.phase {
	case phaseUp:
		return v.upState(st)
	case phaseStopping:
		return StateRunning, "is being suspended"
	case phaseQueued:
		return StateRunning, "is about to start"
	}
	g := &v.goal
	switch {
	case g.run && v.notBefore.After(now):
		return StateStopped, fmt.Sprintf("starts again in %v", v.notBefore.Sub(now).Round(100*time.Millisecond))
	case g.run:
		return StateStopped, "is about to start"
	case v.over() && v.rec.Ended:
		return StateEnded, fmt.Sprintf("with status %d", v.rec.ExitCode)
	case v.rec.Replaced != "" && v.file == nil && !v.rec.FromState:
		return StateEnded, fmt.Sprintf("was replaced by program %.12s…", v.rec.Replaced)
	case v.over() || g.failed:
		return StateFailed, firstLine(g.why)
	case v.rec.Desired == desiredStopped:
		return StateStopped, "by a user"
	}
	return StateStopped, firstLine(g.why)
}

// over tells whether the program that would run is not started again by itself.
func (v *view) over() bool {
	sum := v.rec.SHA256
	if v.file != nil {
		sum = v.file.sha256
	}
	return v.rec.Over != "" && v.rec.Over == sum
}

func (v *view) upState(st worker.Status) (State, string) {
	detail := firstLine(v.goal.why)
	switch {
	case !v.ready && st.Progress != "":
		detail = st.Progress
	case !v.ready:
		detail = "starting"
	case st.LastFailure != "":
		detail = "the last snapshot failed: " + firstLine(st.LastFailure)
	case detail == "" && v.confErr != "":
		detail = "runs with its old settings, the new ones are wrong: " + firstLine(v.confErr)
	}
	if st.Phase == worker.PhaseParked {
		return StateParked, detail
	}
	return StateRunning, detail
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// inspect describes one process in full.
func (d *Daemon) inspect(ctx context.Context, u *unit) Inspection {
	d.refresh(ctx, []*unit{u})
	v, w, st, _ := u.look()
	i := Inspection{
		Process: u.describe(v, st), Dir: u.dir, Log: d.logOf(u.name), Desired: v.rec.Desired,
		Reactor: st.Reactor, RestoredFrom: st.RestoredFrom, Progress: st.Progress, LastFailure: st.LastFailure,
		Warnings: append([]string{}, st.Warnings...), NotApplied: append([]string{}, st.NotApplied...),
		Settings: v.config.Table(), PendingSettings: append([]string{}, v.pending...), Stats: v.rec.Stats,
	}
	i.Journal = st.Journal
	i.SocketCounts, i.Sockets, i.SocketsGone = st.Sockets, []runtime.SavedSocket{}, []runtime.GoneSocket{}
	if st.Sockets != (runtime.SocketCounts{}) && w != nil {
		ctx, cancel := context.WithTimeout(ctx, socketsTime)
		defer cancel()
		if s, err := u.client.Sockets(ctx); err == nil { // else it is going, and has none to tell of
			i.Sockets, i.SocketsGone = append(i.Sockets, s.Sockets...), append(i.SocketsGone, s.Gone...)
		}
	}
	if w == nil {
		list := u.savedSockets(ctx, i.Generation)
		i.SocketCounts.Open = len(list)
		i.Sockets = append(i.Sockets, list[:min(len(list), worker.MaxSockets)]...)
	}
	if st.Last != nil {
		g := describeGeneration(*st.Last)
		i.Last = &g
	}
	if v.file != nil {
		i.File, i.FileProgram = v.file.path, v.file.sha256
	}
	return i
}

// savedSockets returns the sockets that a process without a worker has, and will go on with.
func (u *unit) savedSockets(ctx context.Context, generation uint64) []runtime.SavedSocket {
	if generation == 0 {
		return nil
	}
	s, err := u.saved()
	if err != nil {
		return nil
	}
	list, err := s.Sockets(ctx, generation)
	if err != nil {
		return nil // it was purged, or is damaged, which verify tells
	}
	return list
}
