package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"perdure/config"
	"perdure/runtime"
)

// place is where processes are kept, as the flags and the environment say.
type place struct {
	env   *environment
	state string // the flag
}

// addStateFlag gives a command the flag that says where processes are.
func addStateFlag(cmd *cobra.Command, env *environment) *place {
	p := &place{env: env}
	cmd.Flags().StringVar(&p.state, "state", "", "`DIR` in which processes are kept\n(default $PERDURE_STATE, else $XDG_STATE_HOME/perdure, else ~/.local/state/perdure)")
	return p
}

// dir returns the directory that holds one directory for each process.
func (p *place) dir() (string, error) {
	if p.state != "" {
		return filepath.Abs(p.state)
	}
	if d := p.env.getenv("PERDURE_STATE"); d != "" {
		return filepath.Abs(d)
	}
	return userState(p.env)
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

// saved opens a process that has to be there.
func (p *place) saved(name string) (*runtime.Saved, error) {
	dir, err := p.process(name)
	if err != nil {
		return nil, err
	}
	s, err := runtime.OpenSaved(dir)
	if !errors.Is(err, runtime.ErrNoProcess) {
		return s, err
	}
	state := filepath.Dir(dir)
	names, lerr := runtime.SavedProcesses(state)
	switch {
	case lerr != nil:
		return nil, lerr
	case len(names) == 0:
		return nil, fmt.Errorf("no process %q: there are none in %s", name, state)
	}
	const most = 8
	list, more := names, ""
	if len(list) > most {
		list, more = list[:most], ", …"
	}
	return nil, fmt.Errorf("no process %q in %s; there are: %s%s", name, state, strings.Join(list, ", "), more)
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
