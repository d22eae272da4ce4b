package memsnap

import "encoding/binary"

// A block's entry is encoded by hand: a gigabyte has 16,384 of them, and encoding/binary's reflection would cost more
// than reading them. A test compares both ways.

func appendBlockEntry(b []byte, e *blockEntry) []byte {
	b = binary.LittleEndian.AppendUint32(b, e.StoredSize)
	b = append(b, e.Method, e.Pages, e.Reserved[0], e.Reserved[1])
	b = binary.LittleEndian.AppendUint32(b, e.StoredCRC)
	b = binary.LittleEndian.AppendUint32(b, e.ContentCRC)
	return append(b, e.SHA256[:]...)
}

func decodeBlockEntry(b []byte, e *blockEntry) {
	_ = b[blockEntrySize-1]
	e.StoredSize = binary.LittleEndian.Uint32(b)
	e.Method, e.Pages = b[4], b[5]
	e.Reserved = [2]byte(b[6:8])
	e.StoredCRC = binary.LittleEndian.Uint32(b[8:])
	e.ContentCRC = binary.LittleEndian.Uint32(b[12:])
	e.SHA256 = hash256(b[16:48])
}
