package memsnap

import (
	"context"
	"sync"
)

// Pages are compressed and written by chunks of this size.
const (
	chunkPages = 16 * pagesPerBlock
	chunkSize  = chunkPages * PageSize
)

// chunk is some blocks on their way from the encoders to the file.
type chunk struct {
	runs    []run
	out     []byte // with room for chunkSize
	entries []blockEntry
	done    chan struct{} // closed when out and entries are there
}

// cutChunks divides the runs into chunks; all but the last are full.
func cutChunks(stored []run) []chunk {
	var chunks []chunk
	pieces := make([]run, 0, len(stored))
	from, pages := 0, uint64(0)
	flush := func() {
		if pages > 0 {
			chunks = append(chunks, chunk{runs: pieces[from:len(pieces):len(pieces)], done: make(chan struct{})})
			from, pages = len(pieces), 0
		}
	}
	for _, r := range stored {
		for first := r.first; first < r.end(); {
			end := min(r.end(), first+chunkPages-pages)
			pieces = append(pieces, r.cut(first, end))
			pages += end - first
			first = end
			if pages == chunkPages {
				flush()
			}
		}
	}
	flush()
	return chunks
}

// encode makes the chunk's blocks.
func (c *chunk) encode(scratch []byte) {
	c.entries = make([]blockEntry, 0, chunkPages/pagesPerBlock)
	runs := c.runs
	for len(runs) > 0 {
		start := len(c.out)
		for len(runs) > 0 && len(c.out)-start < blockSize {
			data := runs[0].data
			n := min(len(data), blockSize-(len(c.out)-start))
			// A copy, from which both checksums and the stored bytes are made: they agree even if the caller breaks
			// its word and changes the page now.
			c.out = append(c.out, data[:n]...)
			if runs[0].data = data[n:]; n == len(data) {
				runs = runs[1:]
			}
		}
		var e blockEntry
		c.out, e = encodeBlock(c.out, start, scratch)
		c.entries = append(c.entries, e)
	}
}

// chunksUnderWay is how many chunks are being encoded, wait to be written or are being written at a time: enough for
// the encoders to go on while a write takes long.
func chunksUnderWay(workers int) int { return 2*workers + 4 }

// writeBlocks compresses the pages, chunk after chunk, and writes them while the next ones are compressed.
func (w *Session) writeBlocks(ctx context.Context, out *output, stored []run) ([]blockEntry, error) {
	chunks := cutChunks(stored)
	if len(chunks) == 0 {
		return nil, nil
	}
	workers := min(w.store.commitWorkers, len(chunks))
	under := min(chunksUnderWay(workers), len(chunks))
	buffers, scratches := w.store.buffers.get(under), w.store.scratches.get(workers)
	work := make(chan *chunk, under)
	var running sync.WaitGroup
	defer func() {
		close(work)
		running.Wait()
		w.store.buffers.put(buffers)
		w.store.scratches.put(scratches)
	}()
	for i := range workers {
		running.Go(func() {
			for c := range work {
				c.encode(scratches[i])
				close(c.done)
			}
		})
	}
	feed := func(i int) {
		chunks[i].out = buffers[i%under][:0]
		work <- &chunks[i]
	}
	for i := range under {
		feed(i)
	}
	var entries []blockEntry
	for i := range chunks {
		c := &chunks[i]
		<-c.done
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := out.write(c.out); err != nil {
			return nil, err
		}
		entries = append(entries, c.entries...)
		c.out, c.entries = nil, nil
		if i+under < len(chunks) {
			feed(i + under)
		}
	}
	return entries, nil
}

// bufferPool keeps buffers of one size from one commit to the next. A sync.Pool would lose them to each collection.
type bufferPool struct {
	most, size int

	mu   sync.Mutex
	free [][]byte
}

func newBufferPool(most, size int) *bufferPool { return &bufferPool{most: most, size: size} }

func (p *bufferPool) get(n int) [][]byte {
	p.mu.Lock()
	take := min(n, len(p.free))
	buffers := append([][]byte(nil), p.free[len(p.free)-take:]...)
	p.free = p.free[:len(p.free)-take]
	p.mu.Unlock()
	for len(buffers) < n {
		buffers = append(buffers, make([]byte, 0, p.size))
	}
	return buffers
}

func (p *bufferPool) put(buffers [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, buffers[:min(len(buffers), p.most-len(p.free))]...)
}
