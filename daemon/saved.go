package daemon

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"perdure/memsnap"
	"perdure/runtime"
)

// Generation is what is known of a generation.
type Generation struct {
	Number      uint64    `json:"number"`
	Base        uint64    `json:"base"`
	Time        time.Time `json:"time"`
	Pages       uint64    `json:"pages"`
	PagesNew    uint64    `json:"pages_new"`
	BytesStored uint64    `json:"bytes_stored"`
	PauseNS     int64     `json:"pause_ns"`
	Pinned      bool      `json:"pinned"`
	// Error is why it is damaged; empty if it is well.
	Error string `json:"error"`
}

func describeGeneration(i memsnap.Info) Generation {
	g := Generation{
		Number: i.Number, Base: i.Base, Time: i.Time, Pages: i.Pages, PagesNew: i.PagesNew, BytesStored: i.BytesStored,
		PauseNS: i.Pause.Nanoseconds(), Pinned: i.Pinned,
	}
	if i.Err != nil {
		g.Error = i.Err.Error()
	}
	return g
}

// Verified is what a check of all that is saved of a process has found.
type Verified struct {
	OK bool `json:"ok"`
	// Error is about the process as a whole; empty if it is well.
	Error       string       `json:"error"`
	Generations []Generation `json:"generations"`
}

// Difference is what differs between two generations.
type Difference struct {
	PagesBefore  uint64 `json:"pages_before"`
	PagesAfter   uint64 `json:"pages_after"`
	PagesChanged uint64 `json:"pages_changed"`
	// Changed are ranges of pages: the first one, and how many.
	Changed [][2]uint64 `json:"changed"`
	// Added, Removed and Altered are names of sections.
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Altered []string `json:"altered"`
}

// Archive is what a generation consists of, beside its sections.
type Archive struct {
	Generation Generation `json:"generation"`
	// Runs are the pages of the memory in order: the first one, how many, and where the bytes of the first are, a generation
	// and a position in it, both 0 for pages of zeros. Positions count up with the pages.
	Runs [][4]uint64 `json:"runs"`
	// Sockets are those that the guest had.
	Sockets []Socket `json:"sockets"`
}

// Socket is a socket of a guest as a generation has it.
type Socket struct {
	FD     uint32 `json:"fd"`
	Kind   string `json:"kind"` // listener, connection, or socket for one that the guest made
	Local  string `json:"local"`
	Remote string `json:"remote"`
	// Kept tells that it is held by a keeper. Read and Written are how many bytes of a connection the guest has.
	Kept    bool   `json:"kept"`
	Read    uint64 `json:"read"`
	Written uint64 `json:"written"`
}

// Purged is what a purge has done.
type Purged struct {
	Purged     []uint64 `json:"purged"`
	FreedBytes uint64   `json:"freed_bytes"`
}

// storeOptions are those with which the generations of a process are opened.
func (u *unit) storeOptions() (memsnap.Options, error) {
	v, _, _, _ := u.look()
	key, err := runtime.ReadKey(v.config.Memsnap.KeyFile)
	return memsnap.Options{Key: key}, err
}

// saved opens what is saved of a process.
func (d *Daemon) saved(name string) (*unit, *runtime.Saved, error) {
	u, err := d.named(name)
	if err != nil {
		return nil, nil, err
	}
	s, err := u.saved()
	return u, s, err
}

// saved opens what is saved of the process.
func (u *unit) saved() (*runtime.Saved, error) {
	o, err := u.storeOptions()
	if err != nil {
		return nil, err
	}
	s, err := runtime.OpenSavedWith(u.dir, o)
	if errors.Is(err, runtime.ErrNoProcess) {
		return nil, newError(CodeState, "nothing is saved of %s yet", u.name)
	}
	return s, err
}

func (d *Daemon) generations(name string) ([]Generation, error) {
	_, s, err := d.saved(name)
	if err != nil {
		return nil, err
	}
	infos, err := s.Generations()
	if err != nil {
		return nil, err
	}
	list := make([]Generation, len(infos))
	for i, info := range infos {
		list[i] = describeGeneration(info)
	}
	return list, nil
}

func (d *Daemon) verify(ctx context.Context, name string) (Verified, error) {
	v := Verified{OK: true}
	_, s, err := d.saved(name)
	if err != nil {
		return v, err
	}
	infos, err := s.Generations()
	if err != nil {
		return v, err
	}
	v.Generations = []Generation{}
	for _, info := range infos {
		if info.Err == nil {
			switch err := s.Verify(ctx, info.Number); {
			case runtime.IsDamage(err):
				info.Err = err
			case errors.Is(err, memsnap.ErrNotFound): // it was purged meanwhile
				continue
			case err != nil:
				return v, err
			}
		}
		v.Generations = append(v.Generations, describeGeneration(info))
		v.OK = v.OK && info.Err == nil
	}
	if err := s.VerifyProgram(ctx); err != nil {
		if !runtime.IsDamage(err) {
			return v, err
		}
		v.OK, v.Error = false, err.Error()
	}
	return v, nil
}

func (d *Daemon) diff(ctx context.Context, name string, before, after uint64) (Difference, error) {
	_, s, err := d.saved(name)
	if err != nil {
		return Difference{}, err
	}
	found, err := s.Diff(ctx, before, after)
	if err != nil {
		return Difference{}, err
	}
	out := Difference{
		PagesBefore: found.PagesBefore, PagesAfter: found.PagesAfter, PagesChanged: found.Pages(), Changed: [][2]uint64{},
		Added: append([]string{}, found.Added...), Removed: append([]string{}, found.Removed...), Altered: append([]string{}, found.Altered...),
	}
	for _, r := range found.Changed {
		out.Changed = append(out.Changed, [2]uint64{r.First, r.Count})
	}
	return out, nil
}

// archive tells where the pages of a generation are, 0 for the newest that is well. No page is read.
func (d *Daemon) archive(ctx context.Context, name string, generation uint64) (Archive, error) {
	_, s, err := d.saved(name)
	if err != nil {
		return Archive{}, err
	}
	c, err := s.Contents(ctx, generation)
	if err != nil {
		return Archive{}, err
	}
	out := Archive{Generation: describeGeneration(c.Generation), Runs: make([][4]uint64, len(c.Runs)), Sockets: []Socket{}}
	for i, r := range c.Runs {
		out.Runs[i] = [4]uint64{r.First, r.Count}
		if len(r.Backlinks) > 0 {
			out.Runs[i][2], out.Runs[i][3] = r.Backlinks[0].Generation, r.Backlinks[0].Position
		}
	}
	sockets, err := s.Sockets(ctx, c.Generation.Number)
	if err != nil {
		return Archive{}, err
	}
	for _, k := range sockets {
		out.Sockets = append(out.Sockets, Socket{k.FD, k.Kind, k.Local, k.Remote, k.Kept, k.Position.Consumed, k.Position.Written})
	}
	return out, nil
}

// fork makes a new process of a generation of another, 0 for the newest. It is stopped.
func (d *Daemon) fork(ctx context.Context, name string, generation uint64, to string) (Generation, error) {
	u, s, err := d.saved(name)
	if err != nil {
		return Generation{}, err
	}
	if err := d.config().CheckName(to); err != nil {
		return Generation{}, newError(CodeRequest, "%v", err)
	}
	o, err := u.storeOptions()
	if err != nil {
		return Generation{}, err
	}
	copied, err := s.Fork(ctx, generation, d.dirOf(to), o)
	if errors.Is(err, runtime.ErrProcessExists) {
		return Generation{}, newError(CodeExists, "there is a process %q already", to)
	}
	if err != nil {
		return Generation{}, err
	}
	d.find(to)
	return describeGeneration(copied.Generation), nil
}

// rollback lets a process go on from an older generation. One that runs is stopped for it and started again.
func (d *Daemon) rollback(ctx context.Context, name string, generation uint64) (Generation, error) {
	u, err := d.named(name)
	if err != nil {
		return Generation{}, err
	}
	o, err := u.storeOptions()
	if err != nil {
		return Generation{}, err
	}
	var info memsnap.Info
	err = u.still(ctx, false, func() (err error) {
		info, err = runtime.Rollback(ctx, u.dir, name, generation, o)
		return err
	})
	return describeGeneration(info), err
}

// purge removes a generation, or all but the last so many.
func (d *Daemon) purge(ctx context.Context, name string, generation, keep uint64) (Purged, error) {
	u, err := d.named(name)
	if err != nil {
		return Purged{}, err
	}
	if (generation == 0) == (keep == 0) {
		return Purged{}, newError(CodeRequest, "either a generation, or how many to keep")
	}
	o, err := u.storeOptions()
	if err != nil {
		return Purged{}, err
	}
	o.Policy = memsnap.Policy{MaxSnapshots: keep}
	out := Purged{Purged: []uint64{}}
	err = u.still(ctx, false, func() error {
		return runtime.Maintain(u.dir, name, o, func(s *memsnap.Store) error {
			do := s.PurgeExpired
			if generation != 0 {
				do = func(ctx context.Context) (memsnap.PurgeReport, error) { return s.Purge(ctx, generation) }
			}
			report, err := do(ctx)
			out.Purged, out.FreedBytes = append(out.Purged, report.Purged...), report.Freed
			if errors.Is(err, memsnap.ErrDenied) {
				return newError(CodeState, "%v", err)
			}
			return err
		})
	})
	return out, err
}

// learnSaved finds out what is saved of a new unit: its newest generation and, if no record has it, its program.
func (u *unit) learnSaved(known bool) error {
	st, err := u.savedState()
	if err != nil {
		return err
	}
	u.status.Generation = st.Generation.Number
	if !known {
		u.m.rec.SHA256 = st.Program
		u.view.rec = u.m.rec
	}
	return nil
}

// savedState returns what the newest generation that is well says of the process; the zero state if nothing is saved.
func (u *unit) savedState() (runtime.SavedState, error) {
	o, err := u.storeOptions()
	if err != nil {
		return runtime.SavedState{}, err
	}
	return stateOf(u.d.ctx, u.dir, o)
}

// learn tells the machine what is saved of the process, after somebody else has changed that. Before is the newest
// generation until then.
func (u *unit) learn(before uint64) error {
	st, err := u.savedState()
	if err != nil {
		return err
	}
	newest := st.Generation.Number
	u.mu.Lock()
	u.status.Generation = newest
	u.mu.Unlock()
	if newest > before {
		return u.send(u.d.ctx, message{in: inChanged{st.Program}})
	}
	return nil
}

// hold lets a process stand still for as long as the client is there, which then may change what is saved of it.
func (s *server) hold(rw http.ResponseWriter, r *http.Request) error {
	u, err := s.d.named(r.PathValue("name"))
	if err != nil {
		return err
	}
	return u.still(r.Context(), false, func() error {
		rw.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(rw).Flush(); err != nil {
			return nil // it is gone
		}
		<-r.Context().Done()
		return nil
	})
}

// number reads a number of a request.
func number(r *http.Request, key string) (uint64, error) {
	n, err := strconv.ParseUint(r.FormValue(key), 10, 64)
	if err != nil {
		return 0, newError(CodeRequest, "%s is to be a number", key)
	}
	return n, nil
}

// handleSaved adds the requests about what is saved.
func (s *server) handleSaved(handle func(string, func(http.ResponseWriter, *http.Request) error)) {
	d := s.d
	const process = "/v1/processes/{name}/"
	handle("GET "+process+"generations", func(rw http.ResponseWriter, r *http.Request) error {
		list, err := d.generations(r.PathValue("name"))
		return answer(rw, list, err)
	})
	handle("GET "+process+"archive", func(rw http.ResponseWriter, r *http.Request) error {
		generation, err := number(r, "generation")
		if err != nil {
			return err
		}
		a, err := d.archive(r.Context(), r.PathValue("name"), generation)
		return answer(rw, a, err)
	})
	handle("GET "+process+"verify", func(rw http.ResponseWriter, r *http.Request) error {
		v, err := d.verify(r.Context(), r.PathValue("name"))
		return answer(rw, v, err)
	})
	handle("GET "+process+"diff", func(rw http.ResponseWriter, r *http.Request) error {
		before, err := number(r, "before")
		if err != nil {
			return err
		}
		after, err := number(r, "after")
		if err != nil {
			return err
		}
		found, err := d.diff(r.Context(), r.PathValue("name"), before, after)
		return answer(rw, found, err)
	})
	handle("POST "+process+"fork", func(rw http.ResponseWriter, r *http.Request) error {
		var b forkBody
		if err := readJSON(r, &b); err != nil {
			return err
		}
		g, err := d.fork(r.Context(), r.PathValue("name"), b.Generation, b.New)
		return answer(rw, g, err)
	})
	handle("POST "+process+"rollback", func(rw http.ResponseWriter, r *http.Request) error {
		var b generationBody
		if err := readJSON(r, &b); err != nil {
			return err
		}
		g, err := d.rollback(r.Context(), r.PathValue("name"), b.Generation)
		return answer(rw, g, err)
	})
	handle("POST "+process+"purge", func(rw http.ResponseWriter, r *http.Request) error {
		var b purgeBody
		if err := readJSON(r, &b); err != nil {
			return err
		}
		p, err := d.purge(r.Context(), r.PathValue("name"), b.Generation, b.Keep)
		return answer(rw, p, err)
	})
	handle("POST "+process+"hold", s.hold)
}

// The bodies of requests.
type (
	generationBody struct {
		Generation uint64 `json:"generation"`
	}
	forkBody struct {
		Generation uint64 `json:"generation"`
		New        string `json:"new"`
	}
	purgeBody struct {
		Generation uint64 `json:"generation"`
		Keep       uint64 `json:"keep"`
	}
)

// answer answers with a value, unless there is an error.
func answer(rw http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(rw, v)
}
