package daemon

import (
	"context"
	"net/http"

	"perdure/runtime"
)

// The body of a call, and its answer.
type (
	callBody struct {
		Export string   `json:"export"`
		Args   []string `json:"args"`
	}
	callAnswer struct {
		Results []runtime.Value `json:"results"`
	}
)

// call calls an export of a reactor. One that starts is waited for.
func (d *Daemon) call(ctx context.Context, name string, c callBody) (callAnswer, error) {
	u, err := d.running(ctx, name)
	if err != nil {
		return callAnswer{}, err
	}
	results, err := u.client.Call(ctx, c.Export, c.Args)
	return callAnswer{append([]runtime.Value{}, results...)}, err
}

// call answers a call.
func (s *server) call(rw http.ResponseWriter, r *http.Request) error {
	var b callBody
	if err := readJSON(r, &b); err != nil {
		return err
	}
	out, err := s.d.call(r.Context(), r.PathValue("name"), b)
	return answer(rw, out, err)
}

// Call calls an export of a reactor with arguments as they are written, and returns its results. A trap is an *Error with
// CodeTrap and a stack.
func (c *Client) Call(ctx context.Context, name, export string, args []string) ([]runtime.Value, error) {
	var out callAnswer
	err := c.ask(ctx, http.MethodPost, processPath(name, "call"), callBody{export, args}, &out)
	return out.Results, err
}
