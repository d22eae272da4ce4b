package memsnap

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Encoders and decoders are costly to make and hold their own buffers, so they are kept for reuse. Which level
// compressed a block cannot be seen from outside: readers do not care.
var (
	encoders = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), // the block table has CRCs of its own
			zstd.WithAllLitEntropyCompression(true),
			zstd.WithWindowSize(blockSize),
			zstd.WithSingleSegment(true))
		if err != nil {
			panic(err) // constant options
		}
		return e
	}}
	decoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecodeAllCapLimit(true), // never grow beyond what the caller made room for
			zstd.WithDecoderMaxMemory(maxSectionSize))
		if err != nil {
			panic(err)
		}
		return d
	}}
)

// A compressed block must save at least a sixteenth, or it is stored raw: reading it back is then free.
func worthwhile(stored, raw int) bool { return stored < raw-raw/16 }

// encodeBlock brings the pages in dst from start on, at most blockSize bytes, into their stored form, in place, and
// returns dst with the block's table entry. scratch is room for what the compressor makes.
func encodeBlock(dst []byte, start int, scratch []byte) ([]byte, blockEntry) {
	raw := dst[start:]
	e := blockEntry{Pages: uint8(len(raw) / PageSize), Method: methodRaw, ContentCRC: crc32.Checksum(raw, castagnoli)}
	if packed := compress(scratch, raw); packed != nil {
		dst = append(dst[:start], packed...)
		e.Method = methodZstd
	}
	stored := dst[start:]
	e.StoredSize = uint32(len(stored))
	e.StoredCRC = e.ContentCRC
	if e.Method != methodRaw {
		e.StoredCRC = crc32.Checksum(stored, castagnoli)
	}
	e.SHA256 = sha256.Sum256(stored)
	return dst, e
}

// compress returns raw compressed, in scratch or in memory of its own, or nil if that is not worth it.
func compress(scratch, raw []byte) []byte {
	if looksRandom(raw) {
		return nil
	}
	enc := encoders.Get().(*zstd.Encoder)
	packed := enc.EncodeAll(raw, scratch[:0])
	encoders.Put(enc)
	if !worthwhile(len(packed), len(raw)) {
		return nil
	}
	return packed
}

// looksRandom is the cheap test for bytes that will not compress: over a sample the 256 byte values are about evenly
// spread. A false yes costs compression only.
func looksRandom(raw []byte) bool {
	const sample = 1024
	if len(raw) < PageSize {
		return false
	}
	// Eight stretches of consecutive bytes, spread over the block: strides would miss structure in records.
	var counts [256]uint16
	const stretch = sample / 8
	for i := range 8 {
		at := i * (len(raw) - stretch) / 7
		for _, c := range raw[at : at+stretch] {
			counts[c]++
		}
	}
	// The sum of squares is 5·sample = 5,120 on average for random bytes, with a deviation of about 90 (for uniform
	// bytes, sample + sample²/256). Text, code and numbers are far above.
	var squares int
	for _, n := range counts {
		squares += int(n) * int(n)
	}
	return squares < 5120+6*90
}

// decodeBlock checks stored, the bytes of one block on disk, against its entry and puts the pages into dst, which has
// room for exactly them. The bytes of dst are undefined after an error.
func decodeBlock(dst, stored []byte, e *blockEntry) error {
	if crc32.Checksum(stored, castagnoli) != e.StoredCRC {
		return errBlockCRC
	}
	if e.Method == methodRaw {
		copy(dst, stored)
		return nil
	}
	if err := decompress(dst, stored); err != nil {
		return err
	}
	if crc32.Checksum(dst, castagnoli) != e.ContentCRC {
		return errContentCRC
	}
	return nil
}

var (
	errBlockCRC   = fmt.Errorf("CRC mismatch")
	errContentCRC = fmt.Errorf("CRC mismatch after decompression")
)

// decompress fills dst from a zstd frame, which must yield exactly its length.
func decompress(dst, stored []byte) error {
	dec := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(dec)
	out, err := dec.DecodeAll(stored, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	if len(out) != len(dst) {
		return fmt.Errorf("decompress: %d bytes instead of %d", len(out), len(dst))
	}
	return nil
}

// appendBlockTable appends the table of blocks.
func appendBlockTable(b []byte, entries []blockEntry) []byte {
	b = appendFixed(b, tableHead{blockTableVersion, uint32(len(entries))})
	for i := range entries {
		b = appendBlockEntry(b, &entries[i])
	}
	return b
}

// blockTable is a decoded and checked table of blocks.
type blockTable struct {
	entries []blockEntry
	offsets []int64 // of each block in the file, and of the end of the last
}

// pages returns how many pages the blocks hold.
func (t *blockTable) pages() uint64 {
	if len(t.entries) == 0 {
		return 0
	}
	last := len(t.entries) - 1
	return uint64(last)*pagesPerBlock + uint64(t.entries[last].Pages)
}

// decodeBlockTable decodes the table b, found at offset at of the file, for blocks that take blocksSize bytes.
func decodeBlockTable(path string, at int64, b []byte, blocksSize uint64) (blockTable, error) {
	var t blockTable
	corrupt := func(i int, what string) (blockTable, error) {
		return blockTable{}, &CorruptError{path, at + tableHeadSize + int64(i)*blockEntrySize, "block table: " + what}
	}
	var head tableHead
	decodeFixed(b, &head) // its length was checked with the footer
	if head.Version != blockTableVersion {
		return t, &VersionError{path, "block table", head.Version}
	}
	if uint64(len(b)) != tableHeadSize+uint64(head.Count)*blockEntrySize {
		return corrupt(0, "wrong count")
	}
	n := int(head.Count)
	t.entries = make([]blockEntry, n)
	t.offsets = make([]int64, n+1)
	offset := int64(headerSize)
	for i := range n {
		e := &t.entries[i]
		decodeBlockEntry(b[tableHeadSize+i*blockEntrySize:], e)
		raw := uint32(e.Pages) * PageSize
		switch {
		case e.Pages == 0 || e.Pages > pagesPerBlock || (e.Pages < pagesPerBlock && i < n-1):
			return corrupt(i, "wrong number of pages")
		case e.Reserved != [2]byte{}:
			return corrupt(i, "reserved bytes are not zero")
		case e.Method == methodRaw && (e.StoredSize != raw || e.StoredCRC != e.ContentCRC),
			e.Method == methodZstd && (e.StoredSize == 0 || e.StoredSize >= raw),
			e.Method > methodZstd:
			return corrupt(i, "wrong size or method")
		}
		t.offsets[i] = offset
		offset += int64(e.StoredSize)
	}
	t.offsets[n] = offset
	if uint64(offset-headerSize) != blocksSize {
		return corrupt(n, "the blocks do not fill their part")
	}
	return t, nil
}
