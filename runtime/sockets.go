package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"perdure/runtime/internal/wasi"
)

// useKeeper connects to the keeper of sockets. Without one the process runs as well, but its
// connections end with this worker.
func (p *Process) useKeeper() {
	if p.opt.Sockets == nil {
		return
	}
	k, err := p.opt.Sockets()
	if err != nil {
		p.event(WarningEvent{fmt.Sprintf("%v; connections will not outlive this run", err)})
		return
	}
	p.keeper = k
	p.system.UseKeeper(k)
}

// park tells the keeper that the guest stands still where the newest generation says, unless
// that could not be saved.
func (p *Process) park(saved error) {
	p.system.Leave()
	if saved != nil || p.keeper == nil {
		return
	}
	if err := p.system.Park(p.wasi.Cut()); err != nil {
		p.event(WarningEvent{fmt.Sprintf("the keeper of sockets: %v", err)})
	}
}

// SavedSocket is a socket of a process as a generation, or a cut, has it.
type SavedSocket struct {
	FD       uint32 `json:"fd"`   // the guest's number
	Kind     string `json:"kind"` // listener, connection, or socket for one that the guest made
	Datagram bool   `json:"datagram"`
	Kept     bool   `json:"kept"` // by a keeper
	Local    string `json:"local"`
	Remote   string `json:"remote"`
	// Position is how far the guest had used it, of a connection.
	Position SocketPosition `json:"position"`
	// Since is when the guest got it, zero if not known; Lives in how many workers it has gone on since.
	Since time.Time `json:"since,omitzero"`
	Lives int       `json:"lives"`
}

// GoneSocket is a socket that did not go on at the last restore.
type GoneSocket struct {
	Local  string `json:"local"`
	Remote string `json:"remote"`
	// Reset tells that its connection was reset and that the guest does not know it; else the guest gets an error.
	Reset bool   `json:"reset"`
	Why   string `json:"why"`
}

// Sockets are the sockets of a process as of its last cut, and what did not go on at its last restore, the first of
// them.
type Sockets struct {
	Sockets []SavedSocket `json:"sockets"`
	Gone    []GoneSocket  `json:"gone"`
}

// socketView is what a cut has seen of the sockets.
type socketView struct {
	counts SocketCounts
	state  []byte // of the host
	gone   []wasi.GoneSocket
}

// seeSockets notes the sockets at a cut, with the State of the host.
func (p *Process) seeSockets(state []byte) {
	open, l := p.system.Sockets()
	if open == 0 && l.Resumed+l.Lost+l.Reset == 0 {
		p.status.sockets.Store(nil)
		return
	}
	p.status.sockets.Store(&socketView{SocketCounts{open, l.Resumed, l.Lost, l.Reset}, state, l.Gone})
}

// tellSockets tells what has become of the sockets at a restore.
func (p *Process) tellSockets() {
	if _, l := p.system.Sockets(); l.Resumed+l.Lost+l.Reset > 0 {
		p.event(SocketsEvent{Resumed: l.Resumed, Lost: l.Lost, Reset: l.Reset})
	}
}

// Sockets returns the sockets of the process, as of its last cut. It may be called from any goroutine between Open and
// Close and after; the guest does not notice.
func (p *Process) Sockets() (s Sockets, err error) {
	v := p.status.sockets.Load()
	if v == nil {
		return s, nil
	}
	for _, g := range v.gone {
		s.Gone = append(s.Gone, GoneSocket(g))
	}
	s.Sockets, err = socketsOf(v.state)
	return s, err
}

// Sockets returns the sockets of a process as a generation has them, by their numbers.
func (s *Saved) Sockets(ctx context.Context, generation uint64) (list []SavedSocket, err error) {
	g, err := s.store.OpenGeneration(ctx, generation)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := g.Close(); err == nil {
			err = cerr
		}
	}()
	saved, err := readGeneration(g)
	if err != nil || saved.wasi == nil {
		return nil, err
	}
	return socketsOf(saved.wasi)
}

// socketsOf returns the sockets in the State of a host.
func socketsOf(b []byte) (list []SavedSocket, err error) {
	var state wasi.State
	if err := json.Unmarshal(b, &state); err != nil {
		return nil, fmt.Errorf("%w: wasi section: %v", ErrBadState, err)
	}
	for i := range state.Descriptors {
		d := &state.Descriptors[i]
		if d.Kind != wasi.KindListener && d.Kind != wasi.KindConnection && d.Kind != wasi.KindSocket {
			continue
		}
		one := SavedSocket{FD: d.FD, Kind: string(d.Kind), Datagram: d.Type == wasi.FileSocketDgram}
		if k := d.Socket; k != nil {
			one.Kept, one.Local, one.Remote, one.Position = k.Keeper != 0, string(k.Local), string(k.Remote), k.Position
			one.Lives = int(k.Lives)
			if k.Since != 0 {
				one.Since = time.Unix(0, k.Since)
			}
		}
		list = append(list, one)
	}
	return list, nil
}
