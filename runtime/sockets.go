package runtime

import "fmt"

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
