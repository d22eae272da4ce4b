package spectest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// TestValues checks how values of scripts are read and compared.
func TestValues(t *testing.T) {
	tests := []struct {
		name  string
		value string
		match []uint64 // the words that it stands for
		other []uint64 // nearly those
	}{
		{"i32", `{"type":"i32","value":"4294967295"}`, []uint64{0xffffffff}, []uint64{0x7fffffff}},
		{"i32 negative", `{"type":"i32","value":"-1"}`, []uint64{0xffffffff}, []uint64{1}},
		{"i32 upper half is nothing", `{"type":"i32","value":"7"}`, []uint64{0xdead_0000_0000_0007}, []uint64{6}},
		{"i64", `{"type":"i64","value":"18446744073709551615"}`, []uint64{1<<64 - 1}, []uint64{1<<32 - 1}},
		{"f32 minus zero", `{"type":"f32","value":"2147483648"}`, []uint64{0x80000000}, []uint64{0}},
		{"f32 NaN with a payload", `{"type":"f32","value":"2141192193"}`, []uint64{0x7fa00001}, []uint64{0x7fa00000}},
		{"f32 canonical", `{"type":"f32","value":"nan:canonical"}`, []uint64{0xffc00000}, []uint64{0x7fc00001}},
		{"f32 arithmetic", `{"type":"f32","value":"nan:arithmetic"}`, []uint64{0x7fe00001}, []uint64{0x7fa00001}},
		{"f32 arithmetic is no infinity", `{"type":"f32","value":"nan:arithmetic"}`, []uint64{0x7fc00000}, []uint64{0x7f800000}},
		{"f64 canonical", `{"type":"f64","value":"nan:canonical"}`, []uint64{0x7ff8 << 48}, []uint64{0x7ff8<<48 | 1}},
		{"f64 arithmetic", `{"type":"f64","value":"nan:arithmetic"}`, []uint64{0xfff8<<48 | 1}, []uint64{0x7ff4 << 48}},
		{"externref null", `{"type":"externref","value":"null"}`, []uint64{0}, []uint64{1}},
		{"externref 0 is not null", `{"type":"externref","value":"0"}`, []uint64{1}, []uint64{0}},
		{"funcref null", `{"type":"funcref","value":"null"}`, []uint64{0}, []uint64{0xc000123456}},
		{
			"v128 i8", `{"type":"v128","lane_type":"i8","value":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","255"]}`,
			[]uint64{0x0807060504030201, 0xff0f0e0d0c0b0a09}, []uint64{0x0807060504030201, 0x0f0f0e0d0c0b0a09},
		},
		{
			"v128 i64", `{"type":"v128","lane_type":"i64","value":["1","2"]}`,
			[]uint64{1, 2}, []uint64{2, 1},
		},
		{
			"v128 f32", `{"type":"v128","lane_type":"f32","value":["0","nan:canonical","1","nan:arithmetic"]}`,
			[]uint64{0x7fc00000_00000000, 0xffc12345_00000001}, []uint64{0x7fc00001_00000000, 0xffc12345_00000001},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var v value
			if err := json.Unmarshal([]byte(test.value), &v); err != nil {
				t.Fatal(err)
			}
			if err := check([]value{v}, test.match); err != nil {
				t.Errorf("check(%#x): %v", test.match, err)
			}
			for _, words := range [][]uint64{test.other, test.match[:len(test.match)-1], append(slices.Clone(test.match), 0)} {
				if check([]value{v}, words) == nil {
					t.Errorf("check(%#x) found no difference", words)
				}
			}
			if words, err := encode([]value{v}); err == nil && check([]value{v}, words) != nil {
				t.Errorf("encode gave %#x", words)
			}
		})
	}
}

// wrongMachine is plain wazero with one defect.
type wrongMachine struct {
	machine
	accepts bool // any module, in place of one that is refused the empty one
	call    func(words []uint64, err error) ([]uint64, error)
}

type wrongProgram struct {
	program
	machine *wrongMachine
}

type wrongInstance struct {
	*plainInstance
	machine *wrongMachine
}

func (m *wrongMachine) load(ctx context.Context, wasm []byte) (program, error) {
	p, err := m.machine.load(ctx, wasm)
	if err != nil && m.accepts {
		p, err = m.machine.load(ctx, []byte("\x00asm\x01\x00\x00\x00"))
	}
	return wrongProgram{p, m}, err
}

func (p wrongProgram) instantiate(ctx context.Context, l linkage) (instance, error) {
	i, err := p.program.instantiate(ctx, l)
	if err != nil {
		return nil, err
	}
	return wrongInstance{i.(*plainInstance), p.machine}, nil
}

func (i wrongInstance) call(ctx context.Context, export string, args []uint64) ([]uint64, error) {
	words, err := i.plainInstance.call(ctx, export, args)
	if i.machine.call == nil {
		return words, err
	}
	return i.machine.call(words, err)
}

// failure is a testing.TB that keeps what is reported to it.
type failure struct {
	testing.TB
	errors []string
}

func (f *failure) Errorf(format string, args ...any) {
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *failure) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	panic(f)
}

// TestHarnessNotices runs scripts on machines that err in one respect, which has to be noticed.
func TestHarnessNotices(t *testing.T) {
	tests := []struct {
		name    string
		script  string
		machine wrongMachine
		want    string
	}{
		{"result", "i32", wrongMachine{call: func(words []uint64, err error) ([]uint64, error) {
			for i := range words {
				words[i] ^= 1
			}
			return words, err
		}}, "result 0 (i32), lane 0: got"},
		{"no result", "i32", wrongMachine{call: func([]uint64, error) ([]uint64, error) {
			return nil, nil
		}}, "got 0 result words"},
		{"no trap", "i32", wrongMachine{call: func(words []uint64, err error) ([]uint64, error) {
			if err != nil {
				return []uint64{0}, nil
			}
			return words, err
		}}, `want trap "integer divide by zero"`},
		{"other trap", "i32", wrongMachine{call: func(words []uint64, err error) ([]uint64, error) {
			if err != nil {
				return nil, errors.New("wasm error: unreachable")
			}
			return words, err
		}}, `want trap "integer overflow"`},
		{"error that is no trap", "fac", wrongMachine{call: func(words []uint64, err error) ([]uint64, error) {
			if err != nil {
				return nil, errors.New("the harness mentions a stack overflow of something else")
			}
			return words, err
		}}, `want trap "stack overflow"`},
		{"invalid module accepted", "binary", wrongMachine{accepts: true}, "want the module refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plain := newPlain(t.Context(), suites[1].features)
			defer closeMachine(t.Context(), t, plain)
			m := test.machine
			m.machine = plain
			got := &failure{TB: t}
			func() {
				defer func() {
					if p := recover(); p != nil && p != any(got) {
						panic(p)
					}
				}()
				run(t.Context(), got, suites[1].script(t, test.script), &m)
			}()
			if !slices.ContainsFunc(got.errors, func(e string) bool { return strings.Contains(e, test.want) }) {
				t.Errorf("got %q, want one with %q", got.errors, test.want)
			}
		})
	}
}

// counter is a stoppable that adds up the numbers below its argument, with a suspend point in front of each.
type counter struct {
	next, limit, sum uint64
	closed           bool
	lossy            bool // forgets the sum when it is taken out
}

func (c *counter) function(string) (uint32, error) { return 0, nil }

func (c *counter) begin(ctx context.Context, _ uint32, args []uint64, polls uint64) ([]uint64, bool, error) {
	c.next, c.limit, c.sum = 0, args[0], 0
	return c.proceed(ctx, polls)
}

func (c *counter) proceed(_ context.Context, polls uint64) ([]uint64, bool, error) {
	if c.closed {
		return nil, false, errors.New("closed")
	}
	for ; c.next < c.limit; c.next++ {
		if polls--; polls == 0 {
			return nil, true, nil
		}
		c.sum += c.next
	}
	return []uint64{c.sum}, false, nil
}

func (c *counter) capture(context.Context) ([]byte, error) {
	var image []byte
	for _, n := range []uint64{c.next, c.limit, c.sum} {
		image = binary.LittleEndian.AppendUint64(image, n)
	}
	return image, nil
}

func (c *counter) restore(_ context.Context, image []byte) (stoppable, error) {
	fresh := &counter{lossy: c.lossy, next: binary.LittleEndian.Uint64(image), limit: binary.LittleEndian.Uint64(image[8:])}
	if !c.lossy {
		fresh.sum = binary.LittleEndian.Uint64(image[16:])
	}
	return fresh, nil
}

func (c *counter) global(string) ([]uint64, error) { return nil, errors.New("no globals") }

func (c *counter) linked() api.Module { return nil }

func (c *counter) close(context.Context) error { c.closed = true; return nil }

// TestStops checks the driver of stops on a guest which is known to be taken out rightly, and wrongly.
func TestStops(t *testing.T) {
	seed := newSeed(t)
	for _, lossy := range []bool{false, true} {
		n := &stops{}
		i := &stoppedInstance{current: &counter{lossy: lossy}, rng: rand.New(rand.NewPCG(seed, 0)), stops: n}
		wrong := 0
		for range 20 {
			got, err := i.call(t.Context(), "sum", []uint64{1000})
			if err != nil {
				t.Fatal(err)
			}
			if got[0] != 499500 {
				wrong++
			}
		}
		if (wrong != 0) != lossy {
			t.Errorf("lossy %v: %d of 20 results are wrong", lossy, wrong)
		}
		if n.replaced < 20 {
			t.Errorf("got %d stops, want at least 20", n.replaced)
		}
	}
}
