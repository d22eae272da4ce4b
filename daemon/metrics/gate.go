package metrics

import (
	"net"
	"sync"
)

// gate is a listener that has only so many connections open at a time, so that the descriptors
// of the daemon do not run out.
type gate struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newGate(l net.Listener, n int) *gate {
	return &gate{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a place and then for a connection.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case g.places <- struct{}{}:
	case <-g.closed:
		return nil, net.ErrClosed
	}
	c, err := g.Listener.Accept()
	if err != nil {
		<-g.places
		return nil, err
	}
	return &visitor{Conn: c, leave: sync.OnceFunc(func() { <-g.places })}, nil
}

// Close ends Accept.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// visitor is a connection that has a place.
type visitor struct {
	net.Conn
	leave func()
}

// Close gives the place back.
func (v *visitor) Close() error {
	err := v.Conn.Close()
	v.leave()
	return err
}
