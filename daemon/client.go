package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
)

// maxAnswer bounds an answer that is not a stream, in bytes.
const maxAnswer = 256 << 20

// ErrNoDaemon says that nobody answers at the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// Client asks a daemon. Its methods may be called from any goroutine. Their errors wrap ErrNoDaemon where none answers,
// and are an *Error, with its Code, where the daemon said no.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the daemon with this socket.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s; start it with perdure serve, or name its socket with --socket or $PERDURE_SOCKET", ErrNoDaemon, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w to this user at %s: permission denied", ErrNoDaemon, c.socket)
	}
	return conn, err
}

// Info asks the daemon about itself.
func (c *Client) Info(ctx context.Context) (i Info, err error) {
	return i, c.ask(ctx, http.MethodGet, "info", nil, &i)
}

// List lists all processes, by name.
func (c *Client) List(ctx context.Context) (list []Process, err error) {
	return list, c.ask(ctx, http.MethodGet, "processes", nil, &list)
}

// Inspect returns all that is known of a process.
func (c *Client) Inspect(ctx context.Context, name string) (i Inspection, err error) {
	return i, c.ask(ctx, http.MethodGet, processPath(name, ""), nil, &i)
}

// Start makes a process run; fresh makes it start anew. It returns when the guest runs.
func (c *Client) Start(ctx context.Context, name string, fresh bool) error {
	return c.ask(ctx, http.MethodPost, processPath(name, "start"), freshBody{fresh}, nil)
}

// Stop suspends a process for good. It returns when its last generation is durable.
func (c *Client) Stop(ctx context.Context, name string) error {
	return c.ask(ctx, http.MethodPost, processPath(name, "stop"), nil, nil)
}

// Restart suspends a process and starts it again; fresh makes it start anew. It returns when the guest runs.
func (c *Client) Restart(ctx context.Context, name string, fresh bool) error {
	return c.ask(ctx, http.MethodPost, processPath(name, "restart"), freshBody{fresh}, nil)
}

// Remove forgets the state of a process.
func (c *Client) Remove(ctx context.Context, name string) error {
	return c.ask(ctx, http.MethodDelete, processPath(name, ""), nil, nil)
}

// Snapshot takes a generation and returns when it is durable.
func (c *Client) Snapshot(ctx context.Context, name string) (g Generation, err error) {
	return g, c.ask(ctx, http.MethodPost, processPath(name, "snapshot"), nil, &g)
}

// SnapshotAll takes a generation of every process that runs, and returns when all are durable or have failed.
func (c *Client) SnapshotAll(ctx context.Context) (list []Snapshot, err error) {
	return list, c.ask(ctx, http.MethodPost, "snapshot", nil, &list)
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (r Reloaded, err error) {
	return r, c.ask(ctx, http.MethodPost, "reload", nil, &r)
}

// Logs copies the output of a process to w: its last lines, or all of it if lines is negative; and if follow is set what
// comes from then on, until ctx is done.
func (c *Client) Logs(ctx context.Context, name string, lines int, follow bool, w io.Writer) error {
	q := url.Values{}
	if lines >= 0 {
		q.Set("lines", strconv.Itoa(lines))
	}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, processPath(name, "logs")+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // it was read only
	_, err = io.Copy(w, resp.Body)
	return err
}

// Events calls f with each event of a process from now on, or of all if its name is empty, until the daemon ends, which
// is no error, or ctx is done, or f returns an error.
func (c *Client) Events(ctx context.Context, name string, f func(Event) error) error {
	path := "events"
	if name != "" {
		path += "?" + url.Values{"process": {name}}.Encode()
	}
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // it was read only
	d := json.NewDecoder(resp.Body)
	for {
		var e Event
		if err := d.Decode(&e); err != nil {
			return ctx.Err() // else the daemon has ended
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// Attach joins the standard streams of a process: what is read is its output from now on, what is written its input. It
// outlasts restarts of the process; it ends when the process stops. To close it leaves the process alone.
func (c *Client) Attach(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://perdure/v1/"+processPath(name, "attach"), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeConsole)
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		defer resp.Body.Close() // it was read only
		return nil, newError(CodeInternal, "the daemon answers %s", resp.Status)
	}
	return conn, nil
}

// processPath is the path of what is asked of a process.
func processPath(name, what string) string {
	p := "processes/" + url.PathEscape(name)
	if what != "" {
		p += "/" + what
	}
	return p
}

// ask makes a request with a body of JSON and reads an answer of it.
func (c *Client) ask(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // it was read only
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("the daemon's answer is not understood: %w", err)
	}
	return nil
}

// do makes a request with a body of JSON, and an error of an answer that is none.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://perdure/v1/"+path, r)
	if err != nil {
		return nil, err
	}
	return c.send(req)
}

// send makes a request, and an error of an answer that is none.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		var where *url.Error // says no more than the path
		if errors.As(err, &where) {
			err = where.Err
		}
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close() // it was read only
		e := &Error{}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequest)).Decode(e); err != nil || e.Text == "" {
			return nil, newError(CodeInternal, "the daemon answers %s", resp.Status)
		}
		return nil, e
	}
	return resp, nil
}
