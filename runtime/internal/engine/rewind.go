package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"perdure/runtime/internal/instrument"
)

// ErrRewind is wrapped by the error of a call whose stack could not be put back, so that
// nothing of the guest has run.
var ErrRewind = errors.New("the stack cannot be put back")

// ErrTooDeep is how a guest ends whose stack has, over all stops, become larger than any
// guest's can that was never stopped.
var ErrTooDeep = errors.New("stack overflow")

const (
	// defaultPiece is how many frames are put back at once. It keeps the room that cold frames
	// take, which are larger than hot ones, small against what the engine allows a guest.
	defaultPiece = 1024
	// maxDepth and maxStackWords bound the stack of a guest, in frames and in 64-bit words. The
	// engine allows it 50 to 100 MB of native stack, in which a frame takes 32 bytes at least; but
	// what is not put back yet takes none of that.
	maxDepth      = 4 << 20
	maxStackWords = 1 << 26
)

// incoming is a stack that is being put back, piece by piece. First only the innermost frames
// are, on an empty native stack. When they have returned, the host has their results and puts
// the next piece back, whose innermost frame takes them. So a stack needs no more room than it
// ever had, however deep it is; see docs/RATIONALE.md.
type incoming struct {
	outer  []*instrument.Frame // not put back yet, outermost first
	module *coldModule
	points []instrument.Point
	entry  map[uint32]int32        // by function
	funcs  map[string]api.Function // of module, each with a native stack that is used again

	// The piece that was put back last.
	frames  [][]uint64 // words by frame, outermost first
	entries []int32
	next    int
	words   []uint64 // that the frame which was entered last has not popped yet
	back    bool     // all frames of the piece have what they need
	waits   bool     // the innermost frame waits for a call of the host, which has nResults words
	results []uint64 // else: what the call in which it is has returned

	nResults int
}

// Resume puts the stack of an image back and lets the guest go on. The instance must
// be in the state of the image otherwise.
func (in *Instance) Resume(im *Image) ([]uint64, error) {
	in.root = im.Root
	nResults, waits, err := in.program.meta.CheckStack(im.Root, im.Frames)
	if err == nil {
		err = in.begin(im.Frames)
	}
	if err != nil {
		return in.finish(nil, err)
	}
	in.incoming.waits, in.incoming.nResults = waits, nResults
	return in.finish(in.putBack(nil))
}

// rewindForced puts the stack back that a guest was forced to give.
func (in *Instance) rewindForced() ([]uint64, error) {
	frames, err := in.raw.frames(in.program.meta, in.incoming.outer, false)
	if err == nil {
		err = in.begin(frames)
	}
	if err != nil {
		return nil, err
	}
	return in.putBack(nil)
}

// begin makes ready for a stack that is to be put back. The native stack must be empty.
func (in *Instance) begin(frames []*instrument.Frame) error {
	points := instrument.NormalPoints(frames)
	module, err := in.cold.get(in, points)
	if err != nil {
		return err
	}
	in.incoming = incoming{outer: frames, module: module, points: points, entry: instrument.Entries(points), funcs: map[string]api.Function{}}
	return nil
}

// putBack puts the next piece back and lets the guest run until that has returned. results is
// what the piece before has returned.
func (in *Instance) putBack(results []uint64) ([]uint64, error) {
	q := &in.incoming
	outer := q.outer
	q.results = results
	for n := min(len(outer), in.cfg.Piece); ; n /= 2 {
		q.outer = outer[:len(outer)-n]
		q.frames, q.entries, q.next, q.back = q.frames[:0], q.entries[:0], 0, false
		for _, f := range outer[len(outer)-n:] {
			ws, err := in.program.meta.Words(f, q.points)
			if err != nil {
				return nil, err
			}
			q.frames = append(q.frames, ws)
			q.entries = append(q.entries, q.entry[f.Func])
		}
		f, err := q.function(in.program.meta, outer[len(outer)-n].Func)
		if err != nil {
			return nil, err
		}
		in.raw.reset()
		results, err := f.Call(in.ctx)
		if err == nil || q.back || in.hostErr != nil {
			q.waits = false
			return results, err
		}
		// Nothing of the guest has run. What can have happened is that the frames need more
		// room than there is.
		if n == 1 {
			why, _, _ := strings.Cut(err.Error(), "\n")
			return nil, fmt.Errorf("%w: a frame of function %d: %s", ErrRewind, outer[len(outer)-1].Func, why)
		}
	}
}

// function returns the function that puts frames back of which the outermost is of function f.
func (q *incoming) function(meta *instrument.Meta, f uint32) (api.Function, error) {
	name, err := meta.ResumeExport(f)
	if err != nil {
		return nil, err
	}
	if q.funcs[name] == nil {
		q.funcs[name] = q.module.module.ExportedFunction(name)
	}
	return q.funcs[name], nil
}

// next is called by cold code for the next inner frame.
func (in *Instance) next(ctx context.Context, s []uint64) {
	q := &in.incoming
	if q.next < len(q.frames) {
		q.words = q.frames[q.next]
		s[0] = api.EncodeI32(q.entries[q.next])
		q.next++
		return
	}
	s[0] = api.EncodeI32(-1)
	if !q.waits {
		q.words = q.results
		return
	}
	in.waiting = resizeWords(in.waiting, q.nResults)
	err := in.cfg.Host.Resume(in.waiting)
	switch {
	case err == nil:
		q.words = append([]uint64(nil), in.waiting...)
	case err == ErrInterrupted:
		in.park(ctx, atNext)
		q.words = make([]uint64, len(in.waiting))
	default:
		in.exit(err)
	}
}

// pop gives cold code the next word of its frame.
func (in *Instance) pop(_ context.Context, s []uint64) {
	q := &in.incoming
	if len(q.words) == 0 {
		in.exit(errors.New("cold code takes more than its frame has"))
	}
	s[0] = q.words[0]
	q.words = q.words[1:]
	q.back = q.back || len(q.words) == 0 && q.next == len(q.frames)
}
