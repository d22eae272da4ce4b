package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"perdure/runtime/internal/compare"
)

// server is a perdure run with a listening socket.
type server struct {
	*child
	s       *suite
	address string
	args    []string
}

// serve starts a guest that serves. Flags come before the program.
func (s *suite) serve(guest, name string, flags ...string) (*server, error) {
	path, err := s.program(guest)
	if err != nil {
		return nil, err
	}
	v := &server{s: s}
	if v.address, err = FreeAddress(); err != nil {
		return nil, err
	}
	v.args = append([]string{"run", "--quiet", "--state", filepath.Join(s.dir, "state"), "--cache", filepath.Join(s.dir, "cache"),
		"--name", name, "--listen", "tcp://" + v.address}, flags...)
	v.args = append(v.args, path)
	return v, v.again()
}

// again starts it with the same command.
func (v *server) again() (err error) {
	v.child, err = v.s.start(false, v.s.Exe, v.args...)
	return err
}

// keeper starts what keeps connections, with a socket of this name.
func (s *suite) keeper(name string) (*child, string, error) {
	path := filepath.Join(s.dir, name)
	k, err := s.start(false, s.Exe, "keeper", "--socket", path)
	if err != nil {
		return nil, "", err
	}
	for limit := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return k, path, nil
		}
		if s.ctx.Err() != nil || time.Now().After(limit) {
			k.kill()
			return nil, "", fmt.Errorf("the keeper does not listen: %s", &k.said)
		}
	}
}

// connections measures echoes, and what a kill -9 of the server does to its connections.
func (s *suite) connections() (err error) {
	keeper, path, err := s.keeper("k")
	if err != nil {
		return err
	}
	defer keeper.kill()
	kept, err := s.serve("server", "kept", "--keeper", path)
	if err != nil {
		return err
	}
	defer func() { kept.kill() }()
	alone, err := s.serve("server", "alone", "--keeper", filepath.Join(s.dir, "none"), "--durability", "none", "--every", "0")
	if err != nil {
		return err
	}
	defer alone.kill()
	native, end, err := nativeServer()
	if err != nil {
		return err
	}
	defer end()
	for _, n := range []int{1, s.pick(20, 100)} {
		var ways []compare.Way
		times := s.pick(200, 2000)/n + 1
		for _, w := range []struct{ name, address string }{{"kept", kept.address}, {"alone", alone.address}, {"native", native}} {
			list, err := dial(s.ctx, w.address, n)
			if err != nil {
				return err
			}
			defer func() { _ = hangUp(list) }() // nothing is to be sent
			ways = append(ways, compare.Way{Name: w.name, Run: func() (time.Duration, error) { return together(list, times, echo) }})
		}
		turns := s.pick(3, 11)
		t, err := compare.Turns(turns, ways...)
		if err != nil {
			return err
		}
		id := "echo.one"
		if n > 1 {
			id = "echo.many"
		}
		s.add(id, "µs", t[0].Median()*1e6, turns, "an echo of 1 KiB over %d connections, journal and keeper included", n)
		s.add(id+".bare", "x", t[0].Median()/t[1].Median(), turns, "the same, to without journal, keeper and snapshots")
		s.add(id+".native", "x", t[0].Median()/t[2].Median(), turns, "the same, to a native server")
	}
	return s.survival(kept, s.pick(20, 100))
}

// survival kills a server under its clients, and starts it again.
func (s *suite) survival(v *server, n int) error {
	list, err := dial(s.ctx, v.address, n)
	if err != nil {
		return err
	}
	defer func() { _ = hangUp(list) }() // nothing is to be sent
	var clients sync.WaitGroup
	var echoes atomic.Int64
	stop := make(chan struct{})
	stalls, errs := make([]time.Duration, n), make([]error, n)
	for i, c := range list {
		clients.Go(func() {
			for {
				began := time.Now()
				if errs[i] = errors.Join(c.SetDeadline(began.Add(patience)), echo(i, c)); errs[i] != nil {
					return
				}
				stalls[i] = max(stalls[i], time.Since(began))
				echoes.Add(1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	// more waits for so many echoes of each connection more; one that is lost has none.
	more := func(each int) {
		want := echoes.Load() + int64(each*n)
		for limit := time.Now().Add(time.Minute); echoes.Load() < want && time.Now().Before(limit) && s.ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}
	more(10)
	v.kill()
	err = v.again()
	if err == nil {
		more(10)
	}
	close(stop)
	if err != nil || s.ctx.Err() != nil {
		_ = hangUp(list) // so that nobody waits
	}
	clients.Wait()
	if err != nil {
		return err
	}
	survived := 0
	var all compare.Series
	for i := range list {
		if errs[i] == nil {
			survived++
			all = append(all, stalls[i].Seconds())
		}
	}
	s.add("connections.survived", "x", float64(survived)/float64(n), n, "connections that a kill -9 of the server and a new start leave whole, of %d that were busy", n)
	if survived > 0 {
		s.addAll("connections.stall", "ms", 1e3, all, "the longest wait of each for an answer meanwhile")
	}
	return nil
}

// nativeServer echoes in this process.
func nativeServer() (address string, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				_, _ = io.Copy(c, c) // until its client hangs up
				_ = c.Close()        // which it has done
			})
		}
	})
	return l.Addr().String(), func() {
		_ = l.Close() // nobody connects any more
		serving.Wait()
	}, nil
}

// redis compares the key-value guest with Redis, both of which lose nothing that they have answered when they are killed.
func (s *suite) redis() (err error) {
	tool, err := exec.LookPath("redis-server")
	if err != nil {
		return &notHere{"redis-server is not installed (Debian: redis-server)"}
	}
	address, err := FreeAddress()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(address)
	dir := filepath.Join(s.dir, "redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	startRedis := func() (*child, error) {
		return s.start(false, tool, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--logfile", "log")
	}
	theirs, err := startRedis()
	if err != nil {
		return err
	}
	defer func() { theirs.kill() }()
	keeper, path, err := s.keeper("k2")
	if err != nil {
		return err
	}
	defer keeper.kill()
	ours, err := s.serve("keyvalue", "keyvalue", "--keeper", path)
	if err != nil {
		return err
	}
	defer func() { ours.kill() }()
	turns := s.pick(3, 11)
	for _, n := range []int{1, 50} {
		times := s.pick(500, 5000)/n + 1
		var ways []compare.Way
		for _, w := range []struct{ name, address string }{{"ours", ours.address}, {"redis", address}} {
			list, err := dial(s.ctx, w.address, n)
			if err != nil {
				return err
			}
			defer func() { _ = hangUp(list) }() // nothing is to be sent
			readers := make([]*bufio.Reader, n)
			for i, c := range list {
				readers[i] = bufio.NewReader(c)
			}
			ways = append(ways, compare.Way{Name: w.name, Run: func() (time.Duration, error) {
				return together(list, times, func(i int, c net.Conn) error { return incr(c, readers[i], i) })
			}})
		}
		t, err := compare.Turns(turns, ways...)
		if err != nil {
			return err
		}
		id := fmt.Sprintf("redis.incr%d", n)
		s.add(id+".ours", "1/s", 1/t[0].Median(), turns, "INCR, %d connections: the C guest keyvalue, which only keeps it in memory", n)
		s.add(id+".redis", "1/s", 1/t[1].Median(), turns, "INCR, %d connections: Redis, append-only file, fsync every second", n)
		s.add(id, "x", t[0].Median()/t[1].Median(), turns, "time of it, to Redis")
	}
	return s.recoverBoth(turns, ours, address, &theirs, startRedis)
}

// recoverBoth kills both servers in turns and measures the time until each answers again, on a new connection.
func (s *suite) recoverBoth(turns int, ours *server, address string, theirs **child, start func() (*child, error)) error {
	const keys = 10000
	back := func(address string, kill func(), start func() error) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			kill()
			began := time.Now()
			if err := start(); err != nil {
				return 0, err
			}
			for {
				list, err := dial(s.ctx, address, 1)
				if err != nil {
					return 0, err
				}
				size, err := ask(list[0], "DBSIZE")
				_ = hangUp(list) // nothing is to be sent
				if strings.HasPrefix(size, "-LOADING") {
					continue
				}
				if want := fmt.Sprintf(":%d", keys); err != nil || size != want {
					return 0, errors.Join(err, fmt.Errorf("it has %s keys after a kill, want %s", size, want))
				}
				return time.Since(began), nil
			}
		}
	}
	for _, a := range []string{ours.address, address} {
		list, err := dial(s.ctx, a, 1)
		if err != nil {
			return err
		}
		r := bufio.NewReader(list[0])
		for i := range keys {
			if err = incr(list[0], r, i); err != nil {
				break
			}
		}
		if err = errors.Join(err, hangUp(list)); err != nil {
			return err
		}
	}
	t, err := compare.Turns(turns,
		compare.Way{Name: "ours", Run: back(ours.address, func() { ours.kill() }, ours.again)},
		compare.Way{Name: "redis", Run: back(address, func() { (*theirs).kill() }, func() (err error) { *theirs, err = start(); return err })})
	if err != nil {
		return err
	}
	s.add("redis.recovery.ours", "ms", t[0].Median()*1e3, turns, "kill -9 to the next answer, %d keys: ours", keys)
	s.add("redis.recovery.redis", "ms", t[1].Median()*1e3, turns, "kill -9 to the next answer, %d keys: Redis", keys)
	return nil
}

// incr lets a server count a key, and wants a number.
func incr(c net.Conn, r *bufio.Reader, key int) error {
	if _, err := fmt.Fprintf(c, "INCR key%d\r\n", key); err != nil {
		return err
	}
	line, err := r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, ":") {
		err = fmt.Errorf("the answer is %q", line)
	}
	return err
}

// ask asks for one line.
func ask(c net.Conn, what string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", what); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// criu compares a snapshot of everything with a dump of a native process that has as much memory.
func (s *suite) criu() error {
	tool, err := exec.LookPath("criu")
	if err != nil {
		return &notHere{"criu is not installed (Debian: criu, as root)"}
	}
	if out, err := s.command(tool, "check").CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return &notHere{"criu is installed, but does not work here: " + lines[len(lines)-1]}
	}
	const mib = 64
	held, err := s.start(true, s.Exe, "bench", "--hold", fmt.Sprint(mib))
	if err != nil {
		return err
	}
	defer held.kill()
	if err := held.line(); err != nil { // it has its memory
		return err
	}
	turns := s.pick(2, 7)
	n := 0
	t, err := compare.Turns(turns,
		byClock("criu", func() error {
			n++
			dir := filepath.Join(s.dir, fmt.Sprintf("criu-%d", n))
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			out, err := s.command(tool, "dump", "-t", fmt.Sprint(held.cmd.Process.Pid), "-D", dir, "--shell-job", "--leave-running").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			syscall.Sync() // ours is durable when it is done
			return nil
		}),
		compare.Way{Name: "ours", Run: func() (time.Duration, error) {
			cuts, err := s.cuts(mib, mib*256, 15, 1)
			if err != nil {
				return 0, err
			}
			return cuts[0].Pause + cuts[0].Encode + cuts[0].Sync, nil
		}})
	if err != nil {
		return err
	}
	s.add("criu.dump", "ms", t[0].Median()*1e3, turns, "CRIU's dump of a native process of %d MiB, synced", mib)
	s.add("criu.ours", "ms", t[1].Median()*1e3, turns, "a snapshot of a guest of %d MiB in which every page changed", mib)
	return nil
}
