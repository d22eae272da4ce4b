package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"perdure/daemon/worker"
)

// upgradeConsole is what a connection becomes that is attached to a process.
const upgradeConsole = "perdure-console"

// attach joins a client with the standard streams of a process, until the client goes, or the process stops for longer
// than a restart takes.
func (s *server) attach(rw http.ResponseWriter, r *http.Request) error {
	u, err := s.d.named(r.PathValue("name"))
	if err != nil {
		return err
	}
	if r.Header.Get("Upgrade") != upgradeConsole {
		return newError(CodeRequest, "attach wants the header Upgrade: %s", upgradeConsole)
	}
	console, err := u.console(r.Context())
	if err != nil {
		return err
	}
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return errors.Join(err, console.Close())
	}
	// It is no request any more, and ends with the daemon by itself.
	_ = conn.SetDeadline(time.Time{})
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgradeConsole); err != nil {
		_ = conn.Close()
		_ = console.Close()
		return nil
	}
	select {
	case <-s.d.over: // nobody would wait for it
		_ = conn.Close()
		_ = console.Close()
		return nil
	default:
	}
	s.d.group.Go(func() { u.join(s.d.ctx, conn, buffered, console) })
	return nil
}

// console attaches to the worker, once it has loaded its program.
func (u *unit) console(ctx context.Context) (*worker.Console, error) {
	for {
		if _, err := u.until(ctx, func(v view) (bool, error) {
			switch {
			case v.phase == phaseUp && v.ready:
				return true, nil
			case v.phase == phaseNone && (!v.goal.run || v.over()):
				return true, u.notRunning(v)
			}
			return false, nil
		}); err != nil {
			return nil, err
		}
		c, err := u.client.Console(ctx)
		if err == nil || !errors.Is(err, worker.ErrNoWorker) && !errors.Is(err, worker.CodeEnded) && !errors.Is(err, worker.CodeStarting) {
			return c, err
		}
		select { // it is on its way to go
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(againTime):
		}
	}
}

// join copies both ways until the client goes. When the worker goes, the next one takes its place.
func (u *unit) join(ctx context.Context, client net.Conn, typed io.Reader, console *worker.Console) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	now := console
	current := func() *worker.Console {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close() // it has gone, or is not wanted any more
		_ = current().Close()
	})
	defer stop()
	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		b := make([]byte, 4<<10)
		for {
			n, err := typed.Read(b)
			// What is typed while there is no worker is lost, as is what the last one had not read.
			_, _ = current().Write(b[:n])
			if err != nil {
				return
			}
		}
	})
	for ctx.Err() == nil && show(client, current()) {
		_ = current().Close() // its worker is gone
		next, err := u.console(ctx)
		if err != nil {
			break
		}
		mu.Lock()
		now = next
		mu.Unlock()
	}
	cancel()
	_ = client.Close()
	_ = current().Close()
	reading.Wait()
}

// show copies the output of a guest, and tells whether it was the worker that ended it.
func show(client io.Writer, console io.Reader) bool {
	b := make([]byte, 32<<10)
	for {
		n, err := console.Read(b)
		if _, werr := client.Write(b[:n]); werr != nil {
			return false
		}
		if err != nil {
			return true
		}
	}
}
