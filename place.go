package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"perdure/config"
	"perdure/daemon"
	"perdure/memsnap"
	"perdure/runtime"
)

// place is where processes are kept, as the flags and the environment say.
type place struct {
	env     *environment
	state   string // the flag
	keyFile string // the flag
	contact *contact
	chosen  string // the directory, once it was asked for
}

// addStateFlag gives a command the flag that says where processes are.
func addStateFlag(cmd *cobra.Command, env *environment) *place {
	p := &place{env: env}
	cmd.Flags().StringVar(&p.state, "state", "", "`DIR` in which processes are kept\n(default $PERDURE_STATE, else $XDG_STATE_HOME/perdure, else ~/.local/state/perdure)")
	cmd.Flags().StringVar(&p.keyFile, "key-file", "", "`FILE` with the key that generations are authenticated with, of a process that has one\n(default $PERDURE_KEY_FILE, else none)")
	return p
}

// addDaemonFlag gives a command, which has the flag that says where processes are, the one that says that they are those
// of a daemon.
func (p *place) addDaemonFlag(cmd *cobra.Command) *place {
	p.contact = &contact{env: p.env}
	cmd.Flags().StringVar(&p.contact.socket, "socket", "", "`PATH` of the socket of the daemon whose processes are meant (default $PERDURE_SOCKET)")
	return p
}

// dir returns the directory that holds one directory for each process.
func (p *place) dir() (string, error) {
	if p.chosen != "" {
		return p.chosen, nil
	}
	var err error
	p.chosen, _, err = p.said()
	return p.chosen, err
}

// said returns the directory that the flags and the environment name; where they name none, that of the user, and false.
func (p *place) said() (dir string, named bool, err error) {
	switch env := p.env.getenv("PERDURE_STATE"); {
	case p.state != "":
		dir, err = filepath.Abs(p.state)
	case p.contact != nil && p.contact.socket != "":
		dir, err = p.ofDaemon()
	case env != "":
		dir, err = filepath.Abs(env)
	case p.contact != nil && p.contact.named():
		dir, err = p.ofDaemon()
	default:
		dir, err = userState(p.env)
		return dir, false, err
	}
	return dir, true, err
}

// ofDaemon returns where the daemon's processes are.
func (p *place) ofDaemon() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	info, err := p.contact.client().Info(ctx)
	return info.StateDir, err
}

// existing returns the directory of a process that should be there. Where nobody has said which is meant it is the user's
// own, or else that of the daemon that runs here.
func (p *place) existing(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if p.contact != nil && p.chosen == "" {
		has := func(dir string) bool {
			_, err := os.Lstat(filepath.Join(dir, name))
			return err == nil
		}
		dir, named, err := p.said()
		if err != nil {
			return "", err
		}
		if !named && !has(dir) {
			if daemons, err := p.ofDaemon(); err == nil && has(daemons) {
				dir = daemons
			}
		}
		p.chosen = dir
	}
	return p.process(name)
}

// answerTime is how long a daemon may take to say who it is.
const answerTime = 5 * time.Second

// still runs do while nobody runs a process. If it is one of a daemon that serves this directory, the daemon suspends it
// for that time.
func (p *place) still(ctx context.Context, name string, do func() error) error {
	state, err := p.dir()
	if err != nil || p.contact == nil {
		return errors.Join(err, do())
	}
	client := p.contact.client()
	ask, cancel := context.WithTimeout(ctx, answerTime)
	info, err := client.Info(ask)
	cancel()
	if err != nil || info.StateDir != state {
		return do() // whoever runs it, it is not this daemon
	}
	held, err := client.Hold(ctx, name)
	if errors.Is(err, daemon.CodeNotFound) {
		return do()
	}
	if err != nil {
		return err
	}
	return errors.Join(do(), held.Close())
}

// userState returns where a user's processes are kept if nobody says otherwise.
func userState(env *environment) (string, error) {
	if d := env.getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "perdure"), nil
	}
	home := env.getenv("HOME")
	if home == "" {
		return "", errors.New("no place for processes: $HOME is not set; use --state DIR or $PERDURE_STATE")
	}
	return filepath.Join(home, ".local", "state", "perdure"), nil
}

// process returns the directory of a process by its name.
func (p *place) process(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	dir, err := p.dir()
	return filepath.Join(dir, name), err
}

// key reads the key that generations are authenticated with; nil if there is none.
func (p *place) key() ([]byte, error) {
	path := p.keyFile
	if path == "" {
		path = p.env.getenv("PERDURE_KEY_FILE")
	}
	return runtime.ReadKey(path)
}

// store returns the options with which generations are opened. Progress, if not nil, is told
// of long work.
func (p *place) store(progress func(done, total uint64)) (memsnap.Options, error) {
	key, err := p.key()
	return memsnap.Options{Key: key, Progress: progress}, err
}

// saved opens a process that has to be there. Progress, if not nil, is told of long work.
func (p *place) saved(name string, progress func(done, total uint64)) (*runtime.Saved, error) {
	dir, err := p.existing(name)
	if err != nil {
		return nil, err
	}
	o, err := p.store(progress)
	if err != nil {
		return nil, err
	}
	s, err := runtime.OpenSavedWith(dir, o)
	return s, p.explain(name, err)
}

// maintain is runtime.Maintain for the process of that name.
func (p *place) maintain(ctx context.Context, name string, o memsnap.Options, do func(*memsnap.Store) error) error {
	dir, err := p.existing(name)
	if err != nil {
		return err
	}
	return p.explain(name, p.still(ctx, name, func() error { return runtime.Maintain(dir, name, o, do) }))
}

// explain adds to the error about a process what can be done.
func (p *place) explain(name string, err error) error {
	var locked *runtime.LockedError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, runtime.ErrNoProcess):
		return p.noProcess(name)
	case errors.As(err, &locked):
		return fmt.Errorf("%w; stop it first", err)
	case errors.Is(err, memsnap.ErrKey):
		return fmt.Errorf("%w; if the process has a key: --key-file", err)
	}
	return err
}

// noProcess says that there is no such process, and which there are.
func (p *place) noProcess(name string) error {
	state, err := p.dir()
	if err != nil {
		return err
	}
	names, err := runtime.SavedProcesses(state)
	switch {
	case err != nil:
		return err
	case len(names) == 0:
		return &statusError{exitNotFound, fmt.Errorf("no process %q: there are none in %s", name, state)}
	}
	const most = 8
	list, more := names, ""
	if len(list) > most {
		list, more = list[:most], ", …"
	}
	return &statusError{exitNotFound, fmt.Errorf("no process %q in %s; there are: %s%s", name, state, strings.Join(list, ", "), more)}
}

// complete completes the name of a process.
func (p *place) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	dir, err := p.dir()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := runtime.SavedProcesses(dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeProgram completes the name of a program file.
func completeProgram(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault // the guest's own arguments
	}
	return []string{"wasm"}, cobra.ShellCompDirectiveFilterFileExt
}

// checkName refuses names of processes as the configuration does.
func checkName(name string) error {
	if err := config.CheckName(name); err != nil {
		return fmt.Errorf("%w; choose one with --name", err)
	}
	return nil
}

// nameOf returns the name that a process gets from its program.
func nameOf(program string) string {
	return strings.TrimSuffix(filepath.Base(program), ".wasm")
}

// addCacheFlag gives a command the flag that says where compiled programs are kept.
func addCacheFlag(cmd *cobra.Command, cache *string) {
	cmd.Flags().StringVar(cache, "cache", "", "`DIR` for compiled programs, shared by all processes; empty: none\n(default $XDG_CACHE_HOME/perdure, else ~/.cache/perdure)")
}

// cacheDir returns where compiled programs are kept; empty for nowhere.
func cacheDir(cmd *cobra.Command, env *environment, flag string) (string, error) {
	if cmd.Flags().Changed("cache") {
		if flag == "" {
			return "", nil
		}
		return filepath.Abs(flag)
	}
	return userCache(env), nil
}

// userCache returns where a user's compiled programs are kept; empty for nowhere.
func userCache(env *environment) string {
	if d := env.getenv("XDG_CACHE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "perdure")
	}
	if home := env.getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "perdure")
	}
	return ""
}

// isDir says why a path is not a directory.
func isDir(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	return nil
}
