package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"perdure/config"
	"perdure/daemon"
)

// contact is how the daemon is reached, as the flag and the environment say.
type contact struct {
	env    *environment
	socket string // the flag
}

// addSocketFlag gives a command the flag that says where the daemon is.
func addSocketFlag(cmd *cobra.Command, env *environment) *contact {
	c := &contact{env: env}
	cmd.Flags().StringVar(&c.socket, "socket", "", "`PATH` of the daemon's socket\n(default $PERDURE_SOCKET, else where perdure serve of this user makes it, else "+config.Default().Daemon.Socket+")")
	cmd.ValidArgsFunction = c.complete
	return c
}

// client returns a client for the daemon.
func (c *contact) client() *daemon.Client { return daemon.NewClient(c.path()) }

// named tells whether somebody has said which daemon is meant.
func (c *contact) named() bool { return c.socket != "" || c.env.getenv("PERDURE_SOCKET") != "" }

// path returns the path of the daemon's socket.
func (c *contact) path() string {
	if c.socket != "" {
		return c.socket
	}
	if s := c.env.getenv("PERDURE_SOCKET"); s != "" {
		return s
	}
	system := config.Default().Daemon.Socket
	if os.Geteuid() == 0 {
		return system
	}
	own, err := userSocket(c.env)
	if err != nil {
		return system
	}
	if _, err := os.Stat(own); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(system); err == nil {
			return system
		}
	}
	return own
}

// userSocket is the socket of a daemon that a user serves without a configuration.
func userSocket(env *environment) (string, error) {
	if d := env.getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "perdure", "perdure.sock"), nil
	}
	state, err := userState(env)
	return filepath.Join(state, "perdure.sock"), err
}

// complete completes the name of a process of the daemon.
func (c *contact) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := c.client().List(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
