package daemon

import (
	"context"
	"fmt"
	"net"
	"time"

	"perdure/daemon/metrics"
	"perdure/daemon/worker"
	"perdure/memsnap"
)

// measured is the daemon as package metrics sees it.
type measured struct{ d *Daemon }

// Processes returns what is known of each process.
func (m measured) Processes() []metrics.Process {
	units := m.d.known()
	m.d.refresh(context.Background(), units) // for a moment at most
	list := make([]metrics.Process, 0, len(units))
	for _, u := range units {
		v, _, st, _ := u.look()
		if v.nothing() {
			continue
		}
		p := u.describe(v, st)
		u.mu.Lock()
		tally := u.tally
		u.mu.Unlock()
		list = append(list, metrics.Process{
			Name: p.Name, State: string(p.State), Restarts: p.Restarts, Generation: p.Generation, MemoryBytes: p.MemoryBytes,
			Sockets: st.Sockets.Open, SocketsResumed: st.Sockets.Resumed, SocketsLost: st.Sockets.Lost, SocketsReset: st.Sockets.Reset,
			JournalBytes: st.Journal.Bytes, Started: p.Started, Tally: tally,
		})
	}
	return list
}

// Alive returns why the daemon does not do its work.
func (m measured) Alive() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := m.d.Alive(ctx); err != nil {
		return fmt.Errorf("the daemon is stuck: %w", err)
	}
	return m.d.folder.Problem()
}

// Ready returns what is missing before the daemon has taken over.
func (m measured) Ready() error {
	m.d.mu.Lock()
	read := m.d.set != nil
	m.d.mu.Unlock()
	if !read {
		return fmt.Errorf("the folder has not been read yet")
	}
	waiting := 0
	for _, u := range m.d.known() {
		if v, _, _, _ := u.look(); v.phase == phaseQueued || v.phase == phaseUp && !v.ready {
			waiting++
		}
	}
	if waiting > 0 {
		return fmt.Errorf("%d processes are about to start", waiting)
	}
	return nil
}

// tallyOf counts an event of a worker.
func (u *unit) tallyLocked(e worker.Event) {
	switch {
	case e.Kind == worker.EventFailed:
		u.tally.Fail()
	case e.Kind == worker.EventCommitted && e.Generation != nil:
		u.tally.Commit(measure(e.Generation))
	}
}

func measure(i *memsnap.Info) metrics.Generation {
	return metrics.Generation{Time: i.Time, Pause: i.Pause, DirtyPages: i.PagesPut, StoredBytes: i.BytesStored}
}

// serveMetrics serves metrics and health, if that is wanted, until ctx is done.
func (d *Daemon) serveMetrics(ctx context.Context) error {
	address := string(d.config().Daemon.MetricsListen)
	if address == "" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("daemon.metrics_listen: %w", err)
	}
	d.log.Info().Str("address", l.Addr().String()).Msg("metrics are served")
	d.group.Go(func() {
		if err := metrics.Serve(ctx, l, metrics.Handler(measured{d}, d.opt.Version)); err != nil {
			d.log.Error().Err(err).Msg("metrics are not served any more")
		}
	})
	return nil
}
