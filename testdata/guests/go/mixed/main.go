// Mixed does to its files what programs do, in a mixture: mixed ROUNDS [WORD...]. Its output
// and what it leaves depend on nothing but its arguments and its input. The words ask for more:
// unlinked keeps files open that have no name, stdin reads a line in each round, sleep sleeps.
package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"
)

func main() {
	rounds, err := strconv.Atoi(os.Args[1])
	must(err)
	words := os.Args[2:]
	w := world{in: bufio.NewReaderSize(os.Stdin, 16)}
	w.log = open("/log", os.O_CREATE|os.O_APPEND|os.O_RDWR)
	w.data = open("/data", os.O_CREATE|os.O_RDWR)
	began := time.Now()
	for i := range rounds {
		w.round(i)
		if slices.Contains(words, "unlinked") {
			w.unlinked(i)
		}
		if slices.Contains(words, "stdin") {
			line, err := w.in.ReadString('\n')
			if err != nil && err != io.EOF {
				must(err)
			}
			fmt.Printf("%d read %q\n", i, line)
		}
		if slices.Contains(words, "sleep") {
			time.Sleep(2 * time.Millisecond)
		}
	}
	if time.Since(began) < 0 {
		must(errors.New("time goes backwards"))
	}
	st, err := w.log.Stat()
	must(err)
	b := make([]byte, st.Size())
	_, err = w.log.ReadAt(b, 0)
	must(err)
	fmt.Printf("log %d bytes, %08x\n", len(b), crc32.ChecksumIEEE(b))
	must(w.log.Close())
	must(w.data.Close())
	if w.temp != nil {
		must(w.temp.Close())
	}
	if w.secret != nil {
		must(os.Remove("/secret"))
	}
}

type world struct {
	log, data, temp *os.File
	in              *bufio.Reader
	secret          []byte
}

func (w *world) round(i int) {
	// Append, in two pieces, and read back what is there.
	fmt.Fprintf(w.log, "line %d ", i)
	fmt.Fprintf(w.log, "of the log\n")
	back := make([]byte, 8)
	_, err := w.log.ReadAt(back, int64(i))
	must(err)
	fmt.Printf("%d: %q\n", i, back)

	// Write at places, and truncate.
	_, err = w.data.WriteAt(bytes.Repeat([]byte{byte('a' + i%26)}, 100+i), int64(i*37))
	must(err)
	_, err = w.data.Seek(int64(i*11), io.SeekStart)
	must(err)
	_, err = fmt.Fprintf(w.data, "<%d>", i)
	must(err)
	if i%3 == 2 {
		must(w.data.Truncate(int64(i * 30)))
	}

	// A file is made anew beside the old one and takes its place.
	f := open("/new", os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	fmt.Fprintf(f, "version %d", i)
	if i%2 == 0 {
		must(f.Sync())
	}
	must(os.Rename("/new", "/current"))
	fmt.Fprintf(f, ", renamed while open")
	must(f.Close())
	b, err := os.ReadFile("/current")
	must(err)
	fmt.Printf("%d: %s\n", i, b)

	// Names of every kind come and go.
	dir := "/dir" + strconv.Itoa(i%4)
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, fs.ErrExist):
		must(os.RemoveAll(dir))
		fmt.Println(i, "removed", dir)
	default:
		must(err)
		must(os.WriteFile(dir+"/one", b, 0o644))
		must(os.Link(dir+"/one", dir+"/two"))
		must(os.Symlink("two", dir+"/three"))
		must(os.Rename(dir+"/one", dir+"/four"))
		c, err := os.ReadFile(dir + "/three")
		must(err)
		if !bytes.Equal(b, c) {
			must(errors.New("the link leads elsewhere"))
		}
	}
	entries, err := os.ReadDir("/")
	must(err)
	for _, e := range entries {
		fmt.Print(e.Name(), " ")
	}
	fmt.Println()

	// Chance: what is drawn now is compared later.
	if w.secret == nil {
		w.secret = make([]byte, 16)
		_, err := rand.Read(w.secret)
		must(err)
		must(os.WriteFile("/secret", w.secret, 0o600))
		return
	}
	kept, err := os.ReadFile("/secret")
	must(err)
	if !bytes.Equal(kept, w.secret) {
		must(errors.New("the secret is another"))
	}
	must(os.Remove("/secret"))
	w.secret = nil
}

// unlinked uses files that have no name.
func (w *world) unlinked(i int) {
	if w.temp != nil {
		b := make([]byte, 100)
		n, err := w.temp.ReadAt(b, 0)
		if err != io.EOF {
			must(err)
		}
		fmt.Printf("%d: kept %q\n", i, b[:n])
		must(w.temp.Close())
	}
	w.temp = open("/temp", os.O_CREATE|os.O_EXCL|os.O_RDWR)
	fmt.Fprintf(w.temp, "temporary %d", i)
	must(os.Remove("/temp"))
	fmt.Fprintf(w.temp, ", still there")
	st, err := w.temp.Stat()
	must(err)
	fmt.Printf("%d: %d bytes without a name\n", i, st.Size())
	over := open("/over", os.O_CREATE|os.O_RDWR)
	fmt.Fprintf(over, "over %d", i)
	must(os.WriteFile("/other", []byte("other"), 0o644))
	must(os.Rename("/other", "/over"))
	b := make([]byte, 100)
	n, err := over.ReadAt(b, 0)
	if err != io.EOF {
		must(err)
	}
	fmt.Printf("%d: replaced, %q\n", i, b[:n])
	must(over.Close())
	must(os.Remove("/over"))
}

func open(name string, how int) *os.File {
	f, err := os.OpenFile(name, how, 0o644)
	must(err)
	return f
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
