package journal

import (
	"encoding/binary"
	"testing"
)

// Numbers have the key of their bytes.
func TestKeyNum(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 1 << 40, -1 << 63} {
		k := key(0x12345678)
		if got, want := k.num(v, 7), k.data(binary.LittleEndian.AppendUint64(nil, uint64(v))).data(binary.LittleEndian.AppendUint64(nil, 7)); got != want {
			t.Errorf("%d: got %x, want %x", v, got, want)
		}
	}
}
