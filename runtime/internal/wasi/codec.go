package wasi

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ErrState is wrapped by the error of every State that cannot be decoded.
var ErrState = errors.New("invalid WASI state")

// Bounds of a State. A larger one is not believed.
const (
	maxStateBytes   = 256 << 20
	maxTextBytes    = 1 << 20
	maxPathBytes    = 4096
	maxDescriptors  = 1 << 20
	maxListingBytes = 64 << 20
)

// Text is a string of the guest or of a file system: any bytes. In JSON it is a
// string where it is valid UTF-8, and otherwise an object {"base64": "..."}.
type Text string

type encodedText struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(encodedText{[]byte(t)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var e encodedText
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			return err
		}
		*t = Text(e.Base64)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = Text(s)
	return nil
}

// Listing is the content of a directory. In JSON it is a base64 string of, for
// each entry, the inode (8 bytes, little-endian), the type (1 byte), the length
// of the name (2 bytes, little-endian) and the name.
type Listing struct {
	Entries []DirEntry `json:"-"` // saved by MarshalJSON
}

const listingHeader = 11

// MarshalJSON implements json.Marshaler.
func (l *Listing) MarshalJSON() ([]byte, error) {
	n := 0
	for i := range l.Entries {
		n += listingHeader + len(l.Entries[i].Name)
	}
	b := make([]byte, 0, n)
	for i := range l.Entries {
		e := &l.Entries[i]
		b = binary.LittleEndian.AppendUint64(b, e.Ino)
		b = append(b, byte(e.Type))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(e.Name)))
		b = append(b, e.Name...)
	}
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2)
	out = append(out, '"')
	out = base64.StdEncoding.AppendEncode(out, b)
	return append(out, '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Listing) UnmarshalJSON(src []byte) error {
	var b []byte
	if err := json.Unmarshal(src, &b); err != nil {
		return err
	}
	l.Entries = nil
	for len(b) > 0 {
		if len(b) < listingHeader {
			return errors.New("directory listing ends in an entry's header")
		}
		n := int(binary.LittleEndian.Uint16(b[9:]))
		if n == 0 || n > len(b)-listingHeader {
			return errors.New("directory listing ends in an entry's name")
		}
		l.Entries = append(l.Entries, DirEntry{
			Ino:  binary.LittleEndian.Uint64(b),
			Type: FileType(b[8]),
			Name: string(b[listingHeader : listingHeader+n]),
		})
		b = b[listingHeader+n:]
	}
	return nil
}

// encodeState returns the bytes of s.
func encodeState(s *State) ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode WASI state: %w", err)
	}
	return b, nil
}

// decodeState returns the State that b holds. It accepts nothing that a Host
// could not have saved, as far as that can be told from the State alone.
func decodeState(b []byte) (*State, error) {
	if len(b) > maxStateBytes {
		return nil, fmt.Errorf("%w: %d bytes (at most %d)", ErrState, len(b), maxStateBytes)
	}
	// The version comes first: another one may have other fields.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrState, err)
	}
	if v.Version < FirstStateVersion || v.Version > StateVersion {
		return nil, fmt.Errorf("%w: version %d (known: %d to %d)", ErrState, v.Version, FirstStateVersion, StateVersion)
	}
	var s State
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrState, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes behind its end", ErrState)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrState, err)
	}
	return &s, nil
}

// check reports the first thing in s that no Host would have saved.
func (s *State) check() error {
	if s.Version < 2 && s.Cut != 0 {
		return errors.New("a field of a later version")
	}
	texts := 0
	for _, t := range append(append([]Text(nil), s.Args...), s.Env...) {
		if texts += len(t) + 1; texts > maxTextBytes {
			return errors.New("too many bytes in arguments and environment")
		}
		if strings.IndexByte(string(t), 0) >= 0 {
			return errors.New("NUL in an argument or the environment")
		}
	}
	if len(s.Preopens) > maxDescriptors {
		return errors.New("too many directories")
	}
	if s.Listeners < 0 || s.Listeners > maxDescriptors {
		return errors.New("number of listeners out of range")
	}
	for i := range s.Preopens {
		if len(s.Preopens[i].Guest) > maxPathBytes {
			return fmt.Errorf("name of directory %d too long", i)
		}
	}
	if s.Clocks.Monotonic < 0 || s.Clocks.CPU < 0 {
		return errors.New("clock before zero")
	}
	last := int64(-1)
	for i := range s.Descriptors {
		d := &s.Descriptors[i]
		if int64(d.FD) <= last || d.FD >= maxDescriptors {
			return fmt.Errorf("descriptor %d out of order or range", d.FD)
		}
		last = int64(d.FD)
		if err := d.check(s); err != nil {
			return fmt.Errorf("descriptor %d: %w", d.FD, err)
		}
	}
	if p := s.Pending; p != nil {
		i, ok := FunctionIndex(p.Function)
		if !ok {
			return fmt.Errorf("unknown pending function %.40q", p.Function)
		}
		if len(p.Args) != len(functions[i].Params) {
			return fmt.Errorf("pending %s has %d arguments", p.Function, len(p.Args))
		}
		if p.Issued < 0 || p.Issued > s.Clocks.Monotonic || p.Deadline < -1 {
			return errors.New("times of the pending call out of range")
		}
	}
	return nil
}

func (d *Descriptor) check(s *State) error {
	if d.Source < 0 {
		return errors.New("negative source")
	}
	switch d.Kind {
	case KindStandard:
		if d.Source > 2 {
			return errors.New("no such standard stream")
		}
	case KindFile:
		if d.Source >= len(s.Preopens) {
			return errors.New("no such directory")
		}
		if len(d.Path) == 0 || len(d.Path) >= maxPathBytes || strings.IndexByte(string(d.Path), 0) >= 0 {
			return errors.New("bad path")
		}
	case KindListener, KindConnection:
		if d.Source >= s.Listeners || d.Type != FileSocketStream && (d.Type != FileSocketDgram || s.Version < 2 || d.Kind != KindListener) {
			return errors.New("no such listener, or no socket")
		}
	case KindSocket:
		if d.Made == nil || s.Version < 2 {
			return errors.New("a socket that nobody made")
		}
		if err := d.Made.check(d.Type); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown kind %.40q", d.Kind)
	}
	if k := d.Socket; k != nil {
		switch {
		case d.Kind != KindListener && d.Kind != KindConnection && d.Kind != KindSocket || s.Version < 2:
			return errors.New("socket of what is none")
		case len(k.Local) > maxPathBytes || len(k.Remote) > maxPathBytes:
			return errors.New("address too long")
		}
	}
	switch {
	case d.Made != nil && d.Kind != KindSocket:
		return errors.New("made, but no socket of the guest")
	case d.Preopened && (d.Kind != KindFile || d.Type != FileDirectory):
		return errors.New("only directories are preopened")
	case d.Flags&^flagsAll != 0:
		return errors.New("unknown flags")
	case (d.Base|d.Inheriting)&^rightsAll != 0:
		return errors.New("unknown rights")
	case d.Type > FileSymlink:
		return errors.New("unknown type")
	case d.Offset < 0:
		return errors.New("negative offset")
	case d.Listing != nil && (d.Kind != KindFile || d.Type != FileDirectory):
		return errors.New("listing of what is no directory")
	}
	return nil
}
