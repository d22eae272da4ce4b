package netpersist

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the version of the protocol.
const Version = 1

// The parts of a message, in bytes, and their bounds. PROTOCOL.md is the truth.
const (
	headerBytes = 24
	entryBytes  = 24
	maxText     = 1024
	maxEntries  = 128
	maxMessage  = headerBytes + maxText + maxEntries*entryBytes
)

// Kind is the kind of a socket.
type Kind uint8

// The kinds of sockets.
const (
	KindStream   Kind = 1 // a connection, or a stream socket that is none yet
	KindDatagram Kind = 2
	KindListener Kind = 3
)

type messageType uint8

const (
	msgHello   messageType = 1
	msgFind    messageType = 2
	msgKeep    messageType = 3
	msgTake    messageType = 4
	msgRequeue messageType = 5
	msgRelease messageType = 6
	msgReady   messageType = 7
	msgPark    messageType = 8
	msgForget  messageType = 9

	msgOK      messageType = 128
	msgError   messageType = 129
	msgWelcome messageType = 130
	msgFound   messageType = 131
	msgKept    messageType = 132
	msgTaken   messageType = 133

	msgConnection messageType = 192

	msgState   messageType = 224
	msgControl messageType = 225
	msgOwner   messageType = 226
	msgWorker  messageType = 227
	msgSocket  messageType = 228

	msgDescriptor messageType = 229
)

// Fields that a message of a type may set.
const (
	hasA = 1 << iota
	hasB
	hasKind
	hasMore
	hasText
	hasEntries
)

// messageFields says of each type which fields it has.
var messageFields = map[messageType]int{
	msgHello: hasA | hasB | hasText, msgFind: hasA | hasText, msgKeep: hasB | hasKind | hasText, msgTake: hasA,
	msgRequeue: hasEntries, msgRelease: hasEntries, msgReady: 0, msgPark: hasA, msgForget: 0,
	msgOK: 0, msgError: hasA | hasText, msgWelcome: hasA | hasB, msgFound: hasA, msgKept: hasA, msgTaken: hasEntries | hasMore,
	msgConnection: hasA,
	msgState:      hasA | hasB, msgControl: hasA | hasText, msgOwner: hasA | hasB | hasText | hasEntries, msgWorker: hasA | hasMore,
	msgSocket:     hasA | hasB | hasKind | hasMore | hasText | hasEntries,
	msgDescriptor: hasA | hasB,
}

// message is one packet.
type message struct {
	typ     messageType
	kind    Kind
	more    bool
	a, b    uint64
	text    string
	entries []entry
}

// entry names a socket.
type entry struct {
	id, listener uint64
	kind         Kind
}

// errMessage is wrapped by the error of every message that is not as PROTOCOL.md says.
var errMessage = errors.New("bad message")

// append appends the encoded message to b. It fails when the message is too long.
func (m *message) append(b []byte) ([]byte, error) {
	if len(m.text) > maxText || len(m.entries) > maxEntries {
		return b, fmt.Errorf("%w: %d bytes of text, %d entries", errMessage, len(m.text), len(m.entries))
	}
	var flags byte
	if m.more {
		flags = 1
	}
	b = append(b, Version, byte(m.typ), byte(m.kind), flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.entries)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.text)))
	b = binary.LittleEndian.AppendUint64(b, m.a)
	b = binary.LittleEndian.AppendUint64(b, m.b)
	b = append(b, m.text...)
	for _, e := range m.entries {
		b = binary.LittleEndian.AppendUint64(b, e.id)
		b = binary.LittleEndian.AppendUint64(b, e.listener)
		b = append(b, byte(e.kind), 0, 0, 0, 0, 0, 0, 0)
	}
	return b, nil
}

// fields returns which fields are set.
func (m *message) fields() int {
	set := 0
	note := func(is bool, field int) {
		if is {
			set |= field
		}
	}
	note(m.a != 0, hasA)
	note(m.b != 0, hasB)
	note(m.kind != 0, hasKind)
	note(m.more, hasMore)
	note(m.text != "", hasText)
	note(len(m.entries) > 0, hasEntries)
	return set
}

// decodeMessage decodes one packet. It accepts exactly what append makes.
func decodeMessage(b []byte) (message, error) {
	if len(b) < headerBytes {
		return message{}, fmt.Errorf("%w: %d bytes", errMessage, len(b))
	}
	if b[0] != Version {
		return message{}, fmt.Errorf("%w: version %d (known: %d)", errMessage, b[0], Version)
	}
	m := message{typ: messageType(b[1]), kind: Kind(b[2]), more: b[3] == 1}
	fields, ok := messageFields[m.typ]
	if !ok {
		return message{}, fmt.Errorf("%w: type %d", errMessage, m.typ)
	}
	nEntries, nText := int(binary.LittleEndian.Uint16(b[4:])), int(binary.LittleEndian.Uint16(b[6:]))
	if nEntries > maxEntries || nText > maxText || len(b) != headerBytes+nText+nEntries*entryBytes || b[3] > 1 || m.kind > KindListener {
		return message{}, fmt.Errorf("%w: type %d of %d bytes with %d of text, %d entries", errMessage, m.typ, len(b), nText, nEntries)
	}
	m.a, m.b = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	m.text = string(b[headerBytes : headerBytes+nText])
	for rest := b[headerBytes+nText:]; len(rest) > 0; rest = rest[entryBytes:] {
		e := entry{id: binary.LittleEndian.Uint64(rest), listener: binary.LittleEndian.Uint64(rest[8:]), kind: Kind(rest[16])}
		if e.id == 0 || e.kind > KindListener || [7]byte(rest[17:]) != [7]byte{} {
			return message{}, fmt.Errorf("%w: type %d with a bad entry", errMessage, m.typ)
		}
		m.entries = append(m.entries, e)
	}
	if m.fields()&^fields != 0 {
		return message{}, fmt.Errorf("%w: type %d with a field that it does not have", errMessage, m.typ)
	}
	return m, nil
}
