package runtime

import (
	"context"
	"encoding/json"
	"fmt"

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

// SavedSocket is a socket of a process as a generation has it.
type SavedSocket struct {
	FD            uint32 // the guest's number
	Kind          string // listener, connection, or socket for one that the guest made
	Datagram      bool
	Kept          bool // by a keeper
	Local, Remote string
	// Position is how far the guest had used it, of a connection.
	Position SocketPosition
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
	var state wasi.State
	if err := json.Unmarshal(saved.wasi, &state); err != nil {
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
		}
		list = append(list, one)
	}
	return list, nil
}
