package wasi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	pathpkg "path"
	"strconv"
	"strings"
)

// Warning tells of a descriptor that did not come back as it was. The guest
// runs on; what it sees of it is said in What.
type Warning struct {
	FD   int64  // the guest's number; -1 if the warning is of no descriptor
	Path string // the file, directory or address, as the guest or the configuration names it
	What string
}

// String returns the warning as one line.
func (w Warning) String() string {
	if w.FD < 0 {
		return fmt.Sprintf("%q: %s", w.Path, w.What)
	}
	return fmt.Sprintf("descriptor %d, %q: %s", w.FD, w.Path, w.What)
}

// Save returns the State of the guest, encoded. It is called between two calls.
func (h *Host) Save() ([]byte, error) {
	s, err := h.snapshot()
	if err != nil {
		return nil, err
	}
	return encodeState(s)
}

// snapshot returns the State. It shares memory with the Host.
func (h *Host) snapshot() (*State, error) {
	cpu, errno := h.now(ClockProcessCPU)
	if errno != ESUCCESS {
		return nil, fmt.Errorf("read the CPU clock: %w", errno)
	}
	s := &State{
		Version: StateVersion, Args: h.args, Env: h.env,
		Clocks:  Clocks{Monotonic: h.monotonic(), CPU: cpu},
		Pending: h.pending, Exit: h.exit, Listeners: h.listeners,
	}
	var number [8]byte
	if errno := h.k.Random(number[:]); errno != ESUCCESS {
		return nil, fmt.Errorf("number the cut: %w", errno)
	}
	s.Cut = max(1, binary.LittleEndian.Uint64(number[:]))
	h.cut = s.Cut
	roots := make([]string, len(h.preopens))
	for i := range h.preopens {
		p := &h.preopens[i]
		s.Preopens = append(s.Preopens, p.PreopenState)
		if p.handle != NoHandle {
			if path, errno := h.k.Path(p.handle); errno == ESUCCESS {
				roots[i] = path
			}
		}
	}
	for _, o := range h.table {
		if o == nil {
			continue
		}
		h.locate(o, roots)
		s.Descriptors = append(s.Descriptors, o.Descriptor)
	}
	return s, nil
}

// locate brings what the State says of o up to date: where its file is by now,
// and where a stream of the kernel's own position stands. What cannot be asked of the kernel,
// as of a file whose server has gone, stays as it was known last: that it is another file by
// then is found when it is restored.
func (h *Host) locate(o *open, roots []string) {
	if o.handle == NoHandle {
		return
	}
	if o.Kind == KindStandard && !o.stream && !o.isSocket() {
		pos, errno := h.k.Seek(o.handle, 0, whenceCur)
		if errno == ESUCCESS {
			o.Offset = pos
		}
		return
	}
	if o.Kind == KindListener || o.Kind == KindConnection || o.Kind == KindSocket {
		o.Socket = nil
		if state, ok := h.k.Socket(o.handle); ok {
			o.Socket = &state
		}
		return
	}
	if o.Kind != KindFile {
		return
	}
	st, errno := h.k.Stat(o.handle)
	if errno != ESUCCESS {
		return
	}
	if o.Unlinked = st.Nlink == 0; o.Unlinked {
		return
	}
	root := roots[o.Source]
	path, errno := h.k.Path(o.handle)
	if errno != ESUCCESS || root == "" {
		return // the path that the guest opened has to do
	}
	rel, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/")+"/")
	switch {
	case path == root:
		rel = "."
	case !ok || len(rel) >= maxPathBytes:
		return // it was moved out of the directory
	}
	if strings.HasSuffix(rel, deletedSuffix) && !h.named(o, rel, &st) {
		// It has another name left, which nobody can tell us.
		o.Unlinked = true
		return
	}
	o.Path = Text(rel)
}

// deletedSuffix is what Linux puts behind the path of a descriptor whose name
// was removed.
const deletedSuffix = " (deleted)"

// named reports whether the file that st describes is at path.
func (h *Host) named(o *open, path string, st *Stat) bool {
	file, errno := h.k.Open(h.preopens[o.Source].handle, path, OpenName|OpenNoFollow)
	if errno != ESUCCESS {
		return false
	}
	found, errno := h.k.Stat(file)
	h.k.Close(file) // it only named the file
	return errno == ESUCCESS && found.Dev == st.Dev && found.Ino == st.Ino
}

// Restore returns a Host that goes on from the State that an earlier Save
// returned. Arguments and environment are those of the State; of cfg come the
// host's directories, the listeners' addresses, the standard streams and the
// limits. Directories are recognised by the guest's name, listeners by their
// position. What cannot be attached again is no error: it is told in a Warning,
// and fails when it is used. The error wraps ErrState if state cannot be
// believed.
func Restore(state []byte, cfg Config, k Kernel) (*Host, []Warning, error) {
	s, err := decodeState(state)
	if err != nil {
		return nil, nil, err
	}
	h, err := newHost(cfg, k)
	if err != nil {
		return nil, nil, err
	}
	if n := len(s.Descriptors); n > 0 {
		// A limit that was lowered since does not take away what is open.
		last := int(s.Descriptors[n-1].FD)
		h.cfg.Limits.Descriptors = max(h.cfg.Limits.Descriptors, last+1)
	}
	h.args, h.env, h.listeners = s.Args, s.Env, s.Listeners
	h.pending, h.exit = s.Pending, s.Exit
	if err := h.startClocks(s.Clocks); err != nil {
		return nil, nil, err
	}
	r := restorer{Host: h}
	if d, ok := k.(Deferrer); ok && d.Deferred() {
		r.later = d
	} else if ok {
		r.keeper = d
	}
	r.directories(s)
	if err := h.k.Attach(s.Cut); err != nil {
		r.warn(-1, "", "%v; connections are lost", err)
	}
	for i := range s.Descriptors {
		o := &open{Descriptor: s.Descriptors[i], handle: NoHandle, dead: EIO}
		r.reattach(o)
		h.put(o.FD, o)
	}
	switch reset, err := h.k.Settle(); {
	case err != nil:
		r.warn(-1, "", "the keeper of sockets: %v", err)
	case reset > 0:
		r.warn(-1, "", "%d connections were reset that moved after the last snapshot", reset)
	}
	for _, l := range cfg.Listeners[min(s.Listeners, len(cfg.Listeners)):] {
		r.warn(-1, Text(l.Address), "listener was not given at the start: the guest does not see it")
	}
	return h, r.warnings, nil
}

// restorer attaches the descriptors of a State.
type restorer struct {
	*Host
	warnings []Warning
	rootDev  []bool   // by preopen: the device is the one it was
	roots    []string // by preopen: its path outside; of a Deferrer only
	later    Deferrer // nil if everything is attached now
	keeper   Deferrer // nil if nobody keeps files without a name
}

func (r *restorer) warn(fd int64, path Text, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{fd, string(path), fmt.Sprintf(format, args...)})
}

// directories opens the directories that the guest was given.
func (r *restorer) directories(s *State) {
	used := make([]bool, len(r.cfg.Preopens))
	for i := range s.Preopens {
		p := preopen{PreopenState: s.Preopens[i], handle: NoHandle}
		same, found, root := false, false, ""
		for j := range r.cfg.Preopens {
			c := &r.cfg.Preopens[j]
			if used[j] || Text(c.Guest) != p.Guest {
				continue
			}
			used[j], found = true, true
			p.readOnly = c.ReadOnly
			if r.later != nil {
				root = r.later.RootPath(c.Host)
				p.handle = r.later.Promise(Attachment{Kind: KindFile, Root: true, Path: c.Host, FD: -1,
					Stat: Stat{Dev: p.Dev, Ino: p.Ino, Type: FileDirectory}})
				break
			}
			handle, err := r.k.OpenRoot(c.Host)
			if err != nil {
				r.warn(-1, p.Guest, "directory cannot be opened again: %v", err)
				break
			}
			p.handle = handle
			if st, errno := r.k.Stat(handle); errno == ESUCCESS {
				if st.Ino != p.Ino {
					r.warn(-1, p.Guest, "another directory than before")
				}
				same = st.Dev == p.Dev
				p.Dev, p.Ino = st.Dev, st.Ino
			}
			break
		}
		if !found {
			r.warn(-1, p.Guest, "directory is not given any more")
		}
		r.preopens = append(r.preopens, p)
		r.rootDev = append(r.rootDev, same)
		r.roots = append(r.roots, root)
	}
	for j, u := range used {
		if !u {
			r.warn(-1, Text(r.cfg.Preopens[j].Guest), "directory was not given at the start: the guest does not see it")
		}
	}
}

// reattach attaches o again, or leaves it dead and warns.
func (r *restorer) reattach(o *open) {
	switch o.Kind {
	case KindStandard:
		r.reattachStandard(o)
	case KindFile:
		r.reattachFile(o)
	case KindListener:
		if o.Source >= len(r.cfg.Listeners) {
			r.warn(int64(o.FD), "", "listener is not given any more; the guest gets EIO")
			return
		}
		l := r.cfg.Listeners[o.Source]
		if (kindOfNetwork(l.Network) == "udp") != (o.Type == FileSocketDgram) {
			r.warn(int64(o.FD), Text(l.Address), "is of another network than before; the guest gets EIO")
			return
		}
		if o.Type == FileSocketDgram && o.Socket != nil && l.at(string(o.Socket.Local)) {
			if handle, err := r.k.Adopt(*o.Socket); err == nil {
				o.handle, o.owned, o.dead = handle, true, ESUCCESS
				return
			}
		}
		last := ""
		if o.Socket != nil && anyPort(l) {
			last = string(o.Socket.Local)
		}
		handle, err := r.k.Listen(l.key(o.Source), l.Network, l.Address, last)
		if err != nil {
			r.warn(int64(o.FD), Text(l.Address), "%v; the guest gets EIO", err)
			return
		}
		o.handle, o.owned, o.dead = handle, true, ESUCCESS
	case KindConnection:
		r.reattachConnection(o)
	case KindSocket:
		if r.later != nil {
			a := Attachment{Kind: KindSocket, FD: int64(o.FD), Socket: o.Socket, Made: o.Made}
			o.handle, o.owned, o.dead = r.later.Promise(a), true, ESUCCESS
			return
		}
		handle, err := r.k.Remake(*o.Made, o.Socket)
		if err != nil {
			o.dead = EIO
			if o.Made.Phase == PhaseConnected && o.Type == FileSocketStream {
				o.dead = ECONNRESET
			}
			r.warn(int64(o.FD), max(o.Made.Remote, o.Made.Bound), "%s socket is lost: %v; the guest gets %v", o.Made.Network, err, o.dead)
			return
		}
		o.handle, o.owned, o.dead = handle, true, ESUCCESS
	}
}

// at reports whether the address is one that the listener may have.
func (l Listener) at(address string) bool {
	host, port, err := net.SplitHostPort(l.Address)
	addr, err2 := netip.ParseAddrPort(address)
	if err != nil || err2 != nil || port != "0" && port != strconv.Itoa(int(addr.Port())) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || ip.Unmap() == addr.Addr().Unmap()
}

// anyPort reports whether the system chooses the listener's port. A client looks for it where it was.
func anyPort(l Listener) bool {
	return l.Network != "unix" && strings.HasSuffix(l.Address, ":0")
}

func (r *restorer) reattachConnection(o *open) {
	if r.later != nil {
		a := Attachment{Kind: KindConnection, FD: int64(o.FD), Socket: o.Socket}
		o.handle, o.owned, o.dead = r.later.Promise(a), true, ESUCCESS
		return
	}
	o.dead = ECONNRESET
	if o.Socket == nil {
		r.warn(int64(o.FD), "", "connection is lost; the guest gets ECONNRESET")
		return
	}
	handle, err := r.k.Adopt(*o.Socket)
	if err != nil {
		r.warn(int64(o.FD), o.Socket.Remote, "connection is lost: %v; the guest gets ECONNRESET", err)
		return
	}
	o.handle, o.owned, o.dead = handle, true, ESUCCESS
}

func (r *restorer) reattachStandard(o *open) {
	fresh, ok := r.standard(o.Source)
	if !ok {
		r.warn(int64(o.FD), "", "standard stream %d is closed; the guest gets EIO", o.Source)
		return
	}
	o.handle, o.dead = fresh.handle, ESUCCESS
	if r.later != nil {
		r.promiseStandard(o, fresh)
		return
	}
	// The rights stay the guest's, even if a terminal is now a pipe.
	o.stream, o.fifo, o.terminal, o.Type = fresh.stream, fresh.fifo, fresh.terminal, fresh.Type
	same := o.Dev == fresh.Dev && o.Ino == fresh.Ino
	if o.Source == 0 && same && o.Type == FileRegular {
		// The same file was given as input again: go on where the guest was.
		if _, errno := r.k.Seek(o.handle, o.Offset, whenceSet); errno != ESUCCESS {
			r.warn(int64(o.FD), "", "standard input cannot go on at %d: %v", o.Offset, errno)
		}
	}
	o.Dev, o.Ino, o.Born = fresh.Dev, fresh.Ino, fresh.Born
}

func (r *restorer) reattachFile(o *open) {
	p := &r.preopens[o.Source]
	o.readOnly, o.owned = p.readOnly, true
	switch {
	case p.handle == NoHandle:
		r.warn(int64(o.FD), o.Path, "its directory %q is gone; the guest gets EIO", p.Guest)
		return
	case o.Write && o.readOnly:
		r.warn(int64(o.FD), o.Path, "its directory is read-only now; the guest gets EIO")
		return
	}
	var flags OpenFlags
	if o.Write {
		flags |= OpenWrite
	}
	if o.Read || !o.Write {
		flags |= OpenRead
	}
	if o.Type == FileDirectory {
		flags |= OpenDirectory
	}
	if r.later != nil {
		r.promiseFile(o, flags)
		return
	}
	if o.Unlinked {
		r.reattachUnlinked(o, flags)
		return
	}
	handle, errno := r.k.Open(p.handle, string(o.Path), flags)
	if errno == ENXIO && !o.Read {
		// A named pipe without a reader, for the moment. Opened for both ways it
		// does not need one.
		handle, errno = r.k.Open(p.handle, string(o.Path), flags|OpenRead)
	}
	if errno != ESUCCESS {
		r.warn(int64(o.FD), o.Path, "cannot be opened again: %v; the guest gets EIO", errno)
		return
	}
	st, errno := r.k.Stat(handle)
	if errno != ESUCCESS || st.Type != o.Type {
		r.k.Close(handle) // nothing was written
		r.warn(int64(o.FD), o.Path, "is a file of another type now; the guest gets EIO")
		return
	}
	if other := st.Ino != o.Ino || (st.Dev != o.Dev && r.rootDev[o.Source]) ||
		(st.Born != o.Born && st.Born != 0 && o.Born != 0); other && o.Path != "." {
		r.warn(int64(o.FD), o.Path, "is another file than before")
	}
	o.attach(handle, &st)
	o.Dev, o.Ino, o.Born = st.Dev, st.Ino, st.Born
}

// reattachUnlinked attaches a file that had no name any more, if somebody has kept it.
func (r *restorer) reattachUnlinked(o *open, flags OpenFlags) {
	if r.keeper != nil {
		if handle, errno := r.keeper.OpenUnlinked(o.Dev, o.Ino, flags); errno == ESUCCESS {
			if st, errno := r.k.Stat(handle); errno == ESUCCESS && st.Type == o.Type {
				o.attach(handle, &st)
				return
			}
			r.k.Close(handle) // nothing was written
		}
	}
	r.warn(int64(o.FD), o.Path, "the file had been removed while it was open; the guest gets EIO")
}

// promiseFile leaves o to be attached when the past has been played. Until then it is what
// it was.
func (r *restorer) promiseFile(o *open, flags OpenFlags) {
	st := Stat{Dev: o.Dev, Ino: o.Ino, Born: o.Born, Type: o.Type, Fifo: o.Type == FileUnknown,
		Terminal: o.Type == FileCharDevice && o.Base&RightFdSeek == 0}
	a := Attachment{Kind: KindFile, FD: int64(o.FD), Flags: flags, Stat: st}
	if host := r.roots[o.Source]; host != "" && !o.Unlinked {
		a.Path = pathpkg.Join(host, string(o.Path))
	}
	o.attach(r.later.Promise(a), &st)
}

// promiseStandard keeps a standard stream as the guest knew it, since its past is played next.
func (r *restorer) promiseStandard(o, fresh *open) {
	o.terminal = o.Type == FileCharDevice && o.Base&RightFdSeek == 0
	o.fifo = o.Type == FileUnknown
	switch o.Type {
	case FileRegular, FileBlockDevice, FileDirectory, FileSocketStream, FileSocketDgram:
		o.stream = false
	default:
		o.stream = true
	}
	if o.Source == 0 && o.Type == FileRegular && o.Dev == fresh.Dev && o.Ino == fresh.Ino {
		r.later.PromiseStandard(o.handle, o.Offset)
	}
}

// standard returns the descriptor of a standard stream, and false if it is
// closed.
func (h *Host) standard(stream int) (*open, bool) {
	handle := h.cfg.Stdio[stream]
	if handle < 0 {
		return nil, false
	}
	st, errno := h.k.Stat(handle)
	if errno != ESUCCESS {
		return nil, false
	}
	o := &open{Descriptor: Descriptor{
		Kind: KindStandard, Source: stream, Read: stream == 0, Write: stream != 0,
		Dev: st.Dev, Ino: st.Ino, Born: st.Born,
	}}
	o.attach(handle, &st)
	o.Base = o.meaningful()
	if o.Type == FileDirectory {
		o.Base = RightFdFilestatGet
	}
	if stream == 0 {
		o.Base &^= RightFdWrite | RightFdAllocate | RightFdFilestatSetSize | RightFdDatasync
	} else {
		o.Base &^= RightFdRead
	}
	return o, true
}

// openPreopen opens the directory of that index in the configuration.
func (h *Host) openPreopen(index int) (*open, error) {
	c := &h.cfg.Preopens[index]
	if c.Guest == "" {
		return nil, errors.New("preopened directory without a name for the guest")
	}
	handle, err := h.k.OpenRoot(c.Host)
	if err != nil {
		return nil, err
	}
	p := &h.preopens[index]
	p.handle, p.readOnly = handle, c.ReadOnly
	st, errno := h.k.Stat(handle)
	if errno != ESUCCESS {
		return nil, fmt.Errorf("look at directory %s: %w", c.Host, errno)
	}
	p.Dev, p.Ino = st.Dev, st.Ino
	own, errno := h.k.Open(handle, ".", OpenRead|OpenDirectory)
	if errno != ESUCCESS {
		return nil, fmt.Errorf("open directory %s: %w", c.Host, errno)
	}
	o := &open{
		Descriptor: Descriptor{
			Kind: KindFile, Source: index, Preopened: true, Path: ".", Read: true,
			Base: rightsDirectory, Inheriting: rightsAll &^ RightSockAccept &^ RightSockShutdown,
			Dev: st.Dev, Ino: st.Ino, Born: st.Born,
		},
		owned: true, readOnly: c.ReadOnly,
	}
	o.attach(own, &st)
	return o, nil
}
