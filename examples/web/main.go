// Command web is a guest book served over HTTP, with its whole state in ordinary variables and no database.
//
// Descriptor 3 is its listening socket. It is net/http from Go's own library, unchanged, built for WASI by Go itself:
//
//	GET /         what was written so far, newest first
//	POST /        writes the body, at most 1,000 bytes, and answers with its number
//	GET /visits   counts its calls
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
)

// book is the guest book. It would be a table of a database, were its memory not to last.
type book struct {
	mu      sync.Mutex
	entries []string
	visits  int
}

func main() {
	if err := syscall.SetNonblock(3, true); err != nil {
		log.Fatal("there is no listening socket: ", err)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		log.Fatal(err)
	}
	var b book
	http.HandleFunc("GET /{$}", b.list)
	http.HandleFunc("POST /{$}", b.add)
	http.HandleFunc("GET /visits", b.count)
	log.Print("serving")
	log.Fatal(http.Serve(l, nil))
}

func (b *book) list(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.entries) - 1; i >= 0; i-- {
		fmt.Fprintf(w, "%d: %s\n", i+1, b.entries[i])
	}
}

func (b *book) add(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1000))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, string(text))
	fmt.Fprintln(w, len(b.entries))
}

func (b *book) count(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.visits++
	fmt.Fprintln(w, b.visits)
}
