package spectest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// maxStops bounds the stops of one call. They get rarer the more there were, so that a call which reaches it does not
// get on at all.
const maxStops = 1000

// errNoProgress reports a call that was stopped maxStops times.
var errNoProgress = errors.New("call was stopped too often, it does not get on")

// startable is an instance of which any function can be called that can be called from outside.
type startable interface {
	instance
	// callFunction calls a function by its index: the start function need not be exported.
	callFunction(ctx context.Context, function uint32, args []uint64) ([]uint64, error)
}

// stoppable is an instance whose calls can be stopped, taken out and gone on with elsewhere.
type stoppable interface {
	// function returns the index of an exported function.
	function(export string) (uint32, error)
	// begin calls a function and lets it pass polls-1 suspend points; about there the call is stopped.
	begin(ctx context.Context, function uint32, args []uint64, polls uint64) (results []uint64, stopped bool, err error)
	// proceed goes on with the call that is stopped, under the same terms.
	proceed(ctx context.Context, polls uint64) (results []uint64, stopped bool, err error)
	// capture serialises the instance, which is stopped.
	capture(ctx context.Context) ([]byte, error)
	// restore makes a fresh instance of the same program from an image.
	restore(ctx context.Context, image []byte) (stoppable, error)
	// global returns the stack words of an exported global.
	global(name string) ([]uint64, error)
	// linked returns the module of the engine.
	linked() api.Module
	// close frees the instance.
	close(ctx context.Context) error
}

// stops counts what instances went through.
type stops struct {
	calls    int // of functions
	replaced int // stopped, taken out and put back as a fresh instance
	inCall   int // of these: while a call to the host waited
	goneOn   int // stopped, and gone on with at once in the same instance
}

func (s *stops) add(o stops) {
	s.calls += o.calls
	s.replaced += o.replaced
	s.inCall += o.inCall
	s.goneOn += o.goneOn
}

// stoppedInstance stops every call on a stoppable instance again and again, each time going on in a fresh instance.
type stoppedInstance struct {
	current stoppable
	rng     *rand.Rand
	stops   *stops
	n       int // how often it was replaced
}

var _ startable = (*stoppedInstance)(nil)

func (i *stoppedInstance) call(ctx context.Context, export string, args []uint64) ([]uint64, error) {
	f, err := i.current.function(export)
	if err != nil {
		return nil, err
	}
	return i.callFunction(ctx, f, args)
}

func (i *stoppedInstance) callFunction(ctx context.Context, function uint32, args []uint64) ([]uint64, error) {
	i.stops.calls++
	results, stopped, err := i.current.begin(ctx, function, args, i.polls(0))
	for n := 1; stopped && err == nil; n++ {
		if n > maxStops {
			return nil, errNoProgress
		}
		if err := i.replace(ctx); err != nil {
			return nil, fmt.Errorf("stop %d: %w", n, err)
		}
		i.stops.replaced++
		i.n++
		results, stopped, err = i.current.proceed(ctx, i.polls(n))
	}
	return results, err
}

// polls draws how far the guest gets until its next stop, after n stops in the same call: mostly not far, as most calls
// are short. Those that recurse or loop for long get further and further, and so do instances that were replaced often:
// the specification has modules with thousands of calls that are all alike.
func (i *stoppedInstance) polls(n int) uint64 {
	return 1 + i.rng.Uint64N(1<<i.rng.UintN(8))<<(n/stopsPerCall+i.n/stopsPerInstance)
}

// replace takes the instance out and puts a fresh one in its place.
func (i *stoppedInstance) replace(ctx context.Context) error {
	image, err := i.current.capture(ctx)
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	if err := i.current.close(ctx); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	fresh, err := i.current.restore(ctx, image)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	i.current = fresh
	return nil
}

func (i *stoppedInstance) global(name string) ([]uint64, error) { return i.current.global(name) }

// linked is there for the interface: nobody links to an instance that comes and goes.
func (i *stoppedInstance) linked() api.Module { return i.current.linked() }

// newSeed returns PERDURE_SEED, else a random seed, and says which it is.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("PERDURE_SEED=%d", seed)
	return seed
}

// scriptRand returns the source of a script's stops, which does not depend on what other scripts draw.
func scriptRand(seed uint64, s *script) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.suite.name + "/" + s.name)) // never fails
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
