package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/wasm"
)

// ImageVersion is the version of the encoding of an Image.
const ImageVersion = imageVersion

// The encoding of an Image; FORMAT.md has the tables, which change with these.
const (
	imageVersion = 1
	// maxImageItems bounds every count before its size is compared with the bytes that
	// are left, and the function indexes in tables.
	maxImageItems = 1 << 28
	// The least sizes of items, in bytes.
	minFrameSize  = 5
	minValueSize  = 2
	minGlobalSize = 3
	minTableSize  = 2
	minEntrySize  = 1
)

// EncodeImage encodes an image; FORMAT.md has the format.
func EncodeImage(im *Image) []byte {
	e := imageEncoder{[]byte{imageVersion}}
	e.num(uint64(im.Root))
	e.num(uint64(len(im.Frames)))
	for _, f := range im.Frames {
		e.num(uint64(f.Func))
		e.num(uint64(f.Offset))
		inCall := uint64(0)
		if f.InCall {
			inCall = 1
		}
		e.num(inCall)
		e.values(f.Locals)
		e.values(f.Stack)
	}
	e.num(uint64(len(im.Globals)))
	for _, g := range im.Globals {
		e.num(uint64(g.Index))
		e.value(g.Value)
	}
	e.num(uint64(len(im.Tables)))
	for _, t := range im.Tables {
		e.num(uint64(t.Index))
		e.num(uint64(len(t.Entries)))
		for _, f := range t.Entries {
			e.num(uint64(int64(f) + 1))
		}
	}
	for _, list := range [][]uint32{im.DroppedData, im.DroppedElems} {
		e.num(uint64(len(list)))
		for _, x := range list {
			e.num(uint64(x))
		}
	}
	return e.b
}

type imageEncoder struct{ b []byte }

func (e *imageEncoder) num(v uint64) { e.b = binary.AppendUvarint(e.b, v) }

func (e *imageEncoder) values(vs []instrument.Value) {
	e.num(uint64(len(vs)))
	for _, v := range vs {
		e.value(v)
	}
}

func (e *imageEncoder) value(v instrument.Value) {
	e.b = append(e.b, byte(v.Type))
	e.num(v.Lo)
	if v.Type == wasm.V128 {
		e.num(v.Hi)
	}
}

var errImageShort = errors.New("image ends early")

// ImageVersionError says that an image is not damaged but of another version of the format.
type ImageVersionError struct{ Have, Known int }

func (e *ImageVersionError) Error() string {
	return fmt.Sprintf("image has version %d, this program knows %d", e.Have, e.Known)
}

// DecodeImage decodes what EncodeImage made. It checks the form; whether the image fits
// a program shows when it is restored.
func DecodeImage(b []byte) (*Image, error) {
	if len(b) == 0 {
		return nil, errImageShort
	}
	if b[0] != imageVersion {
		return nil, &ImageVersionError{Have: int(b[0]), Known: imageVersion}
	}
	d := imageDecoder{b: b[1:]}
	im := &Image{Root: d.u32()}
	for n := d.count(minFrameSize); n > 0 && d.err == nil; n-- {
		f := &instrument.Frame{Func: d.u32(), Offset: d.u32()}
		inCall := d.u32()
		if inCall > 1 {
			d.fail(fmt.Errorf("frame flag is %d", inCall))
		}
		f.InCall = inCall == 1
		f.Locals = d.values()
		f.Stack = d.values()
		im.Frames = append(im.Frames, f)
	}
	for n := d.count(minGlobalSize); n > 0 && d.err == nil; n-- {
		im.Globals = append(im.Globals, Global{Index: d.u32(), Value: d.value()})
	}
	for n := d.count(minTableSize); n > 0 && d.err == nil; n-- {
		t := Table{Index: d.u32()}
		for k := d.count(minEntrySize); k > 0 && d.err == nil; k-- {
			f := d.num()
			if f > maxImageItems {
				d.fail(fmt.Errorf("table entry %d", f))
			}
			t.Entries = append(t.Entries, int32(int64(f)-1))
		}
		im.Tables = append(im.Tables, t)
	}
	for _, list := range []*[]uint32{&im.DroppedData, &im.DroppedElems} {
		for n := d.count(minEntrySize); n > 0 && d.err == nil; n-- {
			*list = append(*list, d.u32())
		}
	}
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("image has %d bytes too many", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return im, nil
}

type imageDecoder struct {
	b   []byte
	err error
}

func (d *imageDecoder) fail(err error) {
	if d.err == nil {
		d.err, d.b = err, nil
	}
}

func (d *imageDecoder) num() uint64 {
	v, n := binary.Uvarint(d.b)
	if n == 0 {
		d.fail(errImageShort)
		return 0
	}
	if n < 0 || n > 1 && d.b[n-1] == 0 {
		d.fail(errors.New("image has a number that is not in its shortest form"))
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *imageDecoder) u32() uint32 {
	v := d.num()
	if v > math.MaxUint32 {
		d.fail(fmt.Errorf("number %d is too large", v))
	}
	return uint32(v)
}

// count reads a number of items, each of which takes at least size bytes.
func (d *imageDecoder) count(size int) int {
	v := d.num()
	if v > maxImageItems || int(v)*size > len(d.b) {
		d.fail(errImageShort)
		return 0
	}
	return int(v)
}

func (d *imageDecoder) values() []instrument.Value {
	n := d.count(minValueSize)
	if n == 0 {
		return nil
	}
	vs := make([]instrument.Value, 0, n)
	for ; n > 0 && d.err == nil; n-- {
		vs = append(vs, d.value())
	}
	return vs
}

func (d *imageDecoder) value() instrument.Value {
	if len(d.b) == 0 {
		d.fail(errImageShort)
		return instrument.Value{}
	}
	v := instrument.Value{Type: wasm.ValType(d.b[0])}
	d.b = d.b[1:]
	v.Lo = d.num()
	switch v.Type {
	case wasm.I64, wasm.F64, wasm.FuncRef, wasm.ExternRef:
	case wasm.I32, wasm.F32:
		if v.Lo > math.MaxUint32 {
			d.fail(fmt.Errorf("%v is %#x", v.Type, v.Lo))
		}
	case wasm.V128:
		v.Hi = d.num()
	default:
		d.fail(fmt.Errorf("value has type %#x", byte(v.Type)))
	}
	return v
}
