package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"perdure/runtime"
	"perdure/runtime/internal/compare"
)

// command returns a command that is killed when ctx is done, without what says of the user's own processes where they are.
func (s *suite) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C does not come between
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PERDURE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// child is a perdure run, or another program.
type child struct {
	cmd   *exec.Cmd
	out   *bufio.Reader // nil if nobody reads
	said  bytes.Buffer  // what it said on stderr; read it when it has ended
	began time.Time
}

// start starts a child, whose output is read if that is wanted.
func (s *suite) start(read bool, name string, args ...string) (*child, error) {
	c := &child{cmd: s.command(name, args...)}
	c.cmd.Stderr = &c.said
	if read {
		out, err := c.cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		c.out = bufio.NewReader(out)
	}
	c.began = time.Now()
	return c, c.cmd.Start()
}

// kill kills a child with SIGKILL and waits for it.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()         // how is no matter
}

// line reads a line. A child that ends first is an error, which has what it said.
func (c *child) line() error {
	if _, err := c.out.ReadString('\n'); err != nil {
		c.kill()
		return fmt.Errorf("%s ended: %w: %s", filepath.Base(c.cmd.Path), err, bytes.TrimSpace(c.said.Bytes()))
	}
	return nil
}

// recovery measures the time from the start of the worker of a killed process until the guest prints again, in turns with
// the first start of the same program.
func (s *suite) recovery() error {
	for _, g := range []struct {
		id, name, arg string
		args          []string
	}{
		{id: "c", name: "sort", args: []string{"1000000"}},
		{id: "sqlite", name: "sqlite", args: []string{"idx", "1000000"}},
	} {
		if g.id != "c" && s.Quick {
			continue // to compile it takes long
		}
		path, err := s.program(g.name)
		if err != nil {
			return err
		}
		turns := s.pick(3, 15)
		fresh := 0
		run := func(process string) (*child, error) {
			args := []string{"run", "--quiet", "--every", "200ms", "--state", filepath.Join(s.dir, "state"), "--cache", filepath.Join(s.dir, "cache"), "--name", process, path}
			return s.start(true, s.Exe, append(args, g.args...)...)
		}
		// live lets a process go on until it has been saved again, and kills it.
		live := func(c *child, process string) error {
			before := s.saved(process)
			for limit := time.Now().Add(patience); s.saved(process) < before+2; {
				if err := c.line(); err != nil {
					return err
				}
				if time.Now().After(limit) {
					c.kill()
					return fmt.Errorf("no snapshot in %v", patience)
				}
			}
			c.kill()
			return nil
		}
		killed := g.name + "-killed"
		first, err := run(killed)
		if err != nil {
			return err
		}
		if err := live(first, killed); err != nil {
			return err
		}
		t, err := compare.Turns(turns,
			compare.Way{Name: "first start", Run: func() (time.Duration, error) {
				fresh++
				name := fmt.Sprintf("%s-%d", g.name, fresh)
				c, err := run(name)
				if err != nil {
					return 0, err
				}
				if err := c.line(); err != nil {
					return 0, err
				}
				took := time.Since(c.began)
				c.kill()
				return took, os.RemoveAll(filepath.Join(s.dir, "state", name))
			}},
			compare.Way{Name: "recovery", Run: func() (time.Duration, error) {
				c, err := run(killed)
				if err != nil {
					return 0, err
				}
				if err := c.line(); err != nil {
					return 0, err
				}
				took := time.Since(c.began)
				return took, live(c, killed)
			}})
		if err != nil {
			return err
		}
		s.addAll("recovery."+g.id, "ms", 1e3, t[1], "from starting the worker of %s, killed with kill -9, until it prints again", g.name)
		s.add("recovery."+g.id+".ratio", "x", t[1].Median()/t[0].Median(), turns, "the same, to its first start until it prints, with its code in the cache")
	}
	return nil
}

// saved returns the number of the newest generation of a process; 0 if there is none.
func (s *suite) saved(process string) uint64 {
	saved, err := runtime.OpenSaved(filepath.Join(s.dir, "state", process))
	if err != nil {
		return 0 // it has just begun
	}
	list, err := saved.Generations()
	if err != nil || len(list) == 0 {
		return 0 // one was purged meanwhile
	}
	return list[len(list)-1].Number
}

// dial opens connections to a server that may not listen yet.
func dial(ctx context.Context, address string, n int) (list []net.Conn, err error) {
	for limit := time.Now().Add(patience); len(list) < n; {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			list = append(list, c)
			continue
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return nil, errors.Join(err, hangUp(list))
		}
		time.Sleep(time.Millisecond)
	}
	return list, nil
}

// hangUp closes connections.
func hangUp(list []net.Conn) error {
	var all []error
	for _, c := range list {
		all = append(all, c.Close())
	}
	return errors.Join(all...)
}

// together lets each connection do something so often, all at once, and returns how long one takes.
func together(list []net.Conn, times int, do func(i int, c net.Conn) error) (time.Duration, error) {
	errs := make([]error, len(list))
	var all sync.WaitGroup
	began := time.Now()
	for i, c := range list {
		all.Go(func() {
			if errs[i] = c.SetDeadline(time.Now().Add(patience)); errs[i] != nil {
				return
			}
			for range times {
				if errs[i] = do(i, c); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began) / time.Duration(times*len(list)), errors.Join(errs...)
}

// echo sends 1 KiB and wants it back.
func echo(i int, c net.Conn) error {
	out, in := bytes.Repeat([]byte{byte(i)}, 1024), make([]byte, 1024)
	if _, err := c.Write(out); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, in); err != nil {
		return err
	}
	if !bytes.Equal(in, out) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}
