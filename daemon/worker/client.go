package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"perdure/config"
	"perdure/memsnap"
	"perdure/runtime"
)

// maxAnswer bounds an answer of a worker, in bytes.
const maxAnswer = 4 << 20

// Client asks the worker of a process. Its methods may be called from any goroutine. Their errors wrap ErrNoWorker where
// none answers, and are an *Error, with its Code, where the worker said no.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient returns a client for the worker in the directory of a process. It connects for each request, so that it
// reaches whichever worker is there by then.
func NewClient(dir string) *Client {
	c := &Client{dir: dir}
	c.http = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	dir, err := os.Open(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s", ErrNoWorker, c.dir)
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close() // it was looked at only
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socketAddr(dir).Name)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w in %s", ErrNoWorker, c.dir)
	}
	return conn, err
}

// Status asks what the worker does.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, "status", nil, &s)
}

// Sockets asks for the sockets of the guest, as of its last cut, and for those that did not go on at its last restore. Of
// very many it tells the first.
func (c *Client) Sockets(ctx context.Context) (s runtime.Sockets, err error) {
	return s, c.ask(ctx, http.MethodGet, "sockets", nil, &s)
}

// Snapshot takes a generation and returns when it is durable.
func (c *Client) Snapshot(ctx context.Context) (i memsnap.Info, err error) {
	return i, c.ask(ctx, http.MethodPost, "snapshot", nil, &i)
}

// Suspend stops the process in a last generation and returns when that is durable. The worker exits then. When it could
// not be saved the error has CodeNotSaved.
func (c *Client) Suspend(ctx context.Context) (o Outcome, err error) {
	return o, c.ask(ctx, http.MethodPost, "suspend", nil, &o)
}

// Settings changes what can change while the guest runs.
func (c *Client) Settings(ctx context.Context, s config.ReloadableProcess) error {
	return c.ask(ctx, http.MethodPost, "settings", s, nil)
}

// Call calls an export of a reactor with arguments as runtime.Value has them, and returns its results. A trap is an
// *Error with CodeTrap and a stack.
func (c *Client) Call(ctx context.Context, export string, args []string) ([]runtime.Value, error) {
	var answer called
	if args == nil {
		args = []string{}
	}
	err := c.ask(ctx, http.MethodPost, "call", call{Export: export, Args: args}, &answer)
	return answer.Results, err
}

// Events calls f with each event from now on, until the worker ends, which is no error, or ctx is done, or f returns an
// error.
func (c *Client) Events(ctx context.Context, f func(Event) error) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() // it is read only
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://worker/v1/events", nil)
	if err != nil {
		return err
	}
	if err := req.Write(conn); err != nil {
		return fmt.Errorf("ask the worker for events: %w", err)
	}
	// A daemon has one for each worker: package http's own connection would be two goroutines and 8 KiB more.
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), req)
	if err != nil {
		return fmt.Errorf("ask the worker for events: %w", err)
	}
	defer resp.Body.Close() // it was read only
	if resp.StatusCode >= 400 {
		return readError(resp)
	}
	d := json.NewDecoder(resp.Body)
	for {
		var e Event
		if err := d.Decode(&e); err != nil {
			return ctx.Err() // else the worker has ended; one that is killed ends it in the middle
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// Console attaches to the guest's standard streams: what is read is its output from now on, what is written its input.
// To close the writing side ends nothing but the client's own input. The connection ends with the guest.
func (c *Client) Console(ctx context.Context) (*Console, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	in, err := upgrade(ctx, conn)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Console{UnixConn: conn.(*net.UnixConn), in: in}, nil
}

// Console is a connection to the standard streams of a guest.
type Console struct {
	*net.UnixConn
	in *bufio.Reader
}

// Read reads what the guest writes.
func (c *Console) Read(p []byte) (int, error) { return c.in.Read(p) }

// WriteTo implements io.WriterTo; that of the connection would leave out what has been read already.
func (c *Console) WriteTo(w io.Writer) (int64, error) { return c.in.WriteTo(w) }

// upgrade asks for a console on a connection.
func upgrade(ctx context.Context, conn net.Conn) (*bufio.Reader, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker/v1/console", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeConsole)
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask the worker for a console: %w", err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return nil, fmt.Errorf("ask the worker for a console: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close() // it was read only
		return nil, readError(resp)
	}
	return in, nil
}

// ask makes a request with a body of JSON and reads an answer of it.
func (c *Client) ask(ctx context.Context, method, what string, body, answer any) error {
	resp, err := c.do(ctx, method, what, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // it was read only
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("the answer to %s is not understood: %w", what, err)
	}
	return nil
}

// do makes a request, and an error of an answer that is none.
func (c *Client) do(ctx context.Context, method, what string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://worker/v1/"+what, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the worker for %s: %w", what, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close() // it was read only
		return nil, readError(resp)
	}
	return resp, nil
}

// readError reads the error that an answer is.
func readError(resp *http.Response) error {
	e := &Error{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(e); err != nil || e.Text == "" {
		return newError(CodeInternal, "the worker answers %s", resp.Status)
	}
	return e
}
