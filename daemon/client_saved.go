package daemon

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Generations lists what is saved of a process, oldest first.
func (c *Client) Generations(ctx context.Context, name string) (list []Generation, err error) {
	return list, c.ask(ctx, http.MethodGet, processPath(name, "generations"), nil, &list)
}

// Verify checks every byte that is saved of a process.
func (c *Client) Verify(ctx context.Context, name string) (v Verified, err error) {
	return v, c.ask(ctx, http.MethodGet, processPath(name, "verify"), nil, &v)
}

// Diff compares two generations of a process.
func (c *Client) Diff(ctx context.Context, name string, before, after uint64) (d Difference, err error) {
	q := url.Values{"before": {strconv.FormatUint(before, 10)}, "after": {strconv.FormatUint(after, 10)}}
	return d, c.ask(ctx, http.MethodGet, processPath(name, "diff")+"?"+q.Encode(), nil, &d)
}

// Archive tells where the pages of a generation are, 0 for the newest that is well.
func (c *Client) Archive(ctx context.Context, name string, generation uint64) (a Archive, err error) {
	path := processPath(name, "archive") + "?generation=" + strconv.FormatUint(generation, 10)
	return a, c.ask(ctx, http.MethodGet, path, nil, &a)
}

// Fork makes a new process of a generation of another one; 0 is the newest. It is stopped. Returned is the generation
// that was taken.
func (c *Client) Fork(ctx context.Context, name string, generation uint64, to string) (g Generation, err error) {
	return g, c.ask(ctx, http.MethodPost, processPath(name, "fork"), forkBody{generation, to}, &g)
}

// Rollback lets a process go on from an older generation, and returns the new one that equals it. A process that runs is
// stopped for it, in a last generation, and started again.
func (c *Client) Rollback(ctx context.Context, name string, generation uint64) (g Generation, err error) {
	return g, c.ask(ctx, http.MethodPost, processPath(name, "rollback"), generationBody{generation}, &g)
}

// Purge removes a generation of a process or, if that is 0, all but the last so many. A process that runs is stopped for
// it, and started again.
func (c *Client) Purge(ctx context.Context, name string, generation, keep uint64) (p Purged, err error) {
	return p, c.ask(ctx, http.MethodPost, processPath(name, "purge"), purgeBody{generation, keep}, &p)
}

// Hold lets a process stand still, suspended in a last generation, until what it returns is closed. Meanwhile the caller
// may change what is saved of it.
func (c *Client) Hold(ctx context.Context, name string) (io.Closer, error) {
	resp, err := c.do(ctx, http.MethodPost, processPath(name, "hold"), nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
