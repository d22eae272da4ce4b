package spectest

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"

	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/linmem"
)

// savedInstance is all that a fresh instance needs.
type savedInstance struct {
	Image   []byte
	Size    uint64            // of the memory in bytes
	Pages   map[uint64][]byte // those that are not as in an empty memory, by number
	Pending *pendingCall      // nil unless the guest waits in one
}

// capture serialises the instance, which is stopped.
func (i *engineInstance) capture(context.Context) ([]byte, error) {
	saved := savedInstance{Image: engine.EncodeImage(i.image), Pending: i.host.pending}
	if i.memory != nil {
		saved.Size = uint64(len(i.memory.Bytes()))
		saved.Pages = map[uint64][]byte{}
		err := i.memory.Collect(func(first uint64, data []byte) {
			for n := range len(data) / linmem.PageSize {
				saved.Pages[first+uint64(n)] = bytes.Clone(data[n*linmem.PageSize : (n+1)*linmem.PageSize])
			}
		})
		if err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(&saved); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// restore makes a fresh instance from what capture gave.
func (i *engineInstance) restore(ctx context.Context, image []byte) (stoppable, error) {
	var saved savedInstance
	if err := gob.NewDecoder(bytes.NewReader(image)).Decode(&saved); err != nil {
		return nil, err
	}
	fresh, err := i.program.fresh(ctx, i.link, true)
	if err != nil {
		return nil, err
	}
	if i.memory != nil {
		if err := fresh.fill(saved.Size, saved.Pages); err != nil {
			return nil, err
		}
	}
	fresh.host.pending = saved.Pending
	if fresh.image, err = engine.DecodeImage(saved.Image); err != nil {
		return nil, err
	}
	return fresh, fresh.in.Restore(fresh.image)
}

// fill gives the memory of a fresh instance its size and content.
func (i *engineInstance) fill(size uint64, pages map[uint64][]byte) error {
	if grow := (size - uint64(len(i.memory.Bytes()))) >> 16; grow > 0 {
		if _, ok := i.in.Module().Memory().Grow(uint32(grow)); !ok {
			return fmt.Errorf("memory does not grow to %d bytes", size)
		}
	}
	if err := i.memory.Zero(); err != nil { // the data segments are in it
		return err
	}
	for n, page := range pages {
		copy(i.memory.Bytes()[n*linmem.PageSize:], page)
	}
	return nil
}
