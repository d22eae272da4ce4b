package main

import (
	"github.com/spf13/cobra"
)

// keeperCommand is perdure keeper: the process that holds sockets while their worker is dead.
type keeperCommand struct {
	socket string
	fd     int  // of the listening socket, when it was made already; else -1
	state  int  // of the program before, as an open descriptor; else -1
	store  bool // what it holds goes to systemd's descriptor store when it is told to end
	leave  bool // when there is nothing to keep
}

func newKeeperCommand(*environment) *cobra.Command {
	var k keeperCommand
	cmd := &cobra.Command{
		Use:   "keeper --socket PATH",
		Short: "hold the sockets of processes while no worker runs them",
		Long: `Hold the sockets of processes while no worker runs them. perdure run starts a keeper of its own
and perdure serve where they need one; this command is for one that runs as a service.

SIGHUP makes it execute its program anew, after an upgrade: it keeps what it holds, and nobody
sees anything of it. SIGTERM ends it, and with it the connections that no worker has; with --store
systemd holds them for the next one (FileDescriptorStoreMax). Only its own user can connect to it.`,
		Example: `  perdure keeper --socket /run/perdure/keeper.sock
  perdure run --keeper /run/perdure/keeper.sock --listen tcp://:8080 server.wasm`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runKeeper(cmd.Context(), k) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&k.socket, "socket", "", "`PATH` of the unix socket that workers connect to")
	f.BoolVar(&k.store, "store", false, "as a systemd service: leave what it holds in the descriptor store when it stops")
	f.IntVar(&k.fd, "fd", -1, "the listening socket as an open descriptor")
	f.IntVar(&k.state, "state-fd", -1, "what the program before has left, as an open descriptor")
	f.BoolVar(&k.leave, "leave", false, "leave when there is nothing to keep")
	for _, name := range []string{"fd", "state-fd", "leave"} {
		// The only error is a flag that does not exist.
		_ = f.MarkHidden(name)
	}
	_ = cmd.MarkFlagRequired("socket")
	return cmd
}
