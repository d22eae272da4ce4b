package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"perdure/daemon"
	"perdure/runtime"
)

func newInspectCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "all that the daemon knows of a process",
		Long: `Print all that the daemon knows of a process.

With --json: an object with what perdure ps --json has for it, and dir (of its state), log (the
file with its output), file (its program in the folder), file_program (SHA-256 of that), desired
(running or stopped), reactor, restored_from (a generation), progress, warnings, last_failure (of
a snapshot), not_applied (limits that this system lacks), last (the newest generation: number,
base, time, pages, pages_new, bytes_stored, pause_ns, pinned, error), sockets (as of the last
snapshot: fd, kind, datagram, kept, local, remote, position, since, lives: in how many workers it
has gone on), sockets_gone (what did not go on at the last restore: local, remote, reset, why),
journal (bytes since the last snapshot, replay_ns: about how long it takes at most to play them
after a kill, the time since, waiting included),
socket_counts (open, resumed, lost, reset), settings (all that applies to it), pending_settings
(changes that count at its next start) and stats (starts, crashes, traps, ran_ns, last_end).`,
		Example: `  perdure inspect prog
  perdure inspect --json prog | jq .settings.limits`,
		Args: oneProcess,
	}
	contact := addSocketFlag(cmd, env)
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		i, err := contact.client().Inspect(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(env.stdout, i)
		}
		return printInspection(env.stdout, i)
	}
	return cmd
}

func printInspection(out io.Writer, i daemon.Inspection) error {
	w := newTable(out, 0)
	line := func(key, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		for n, l := range strings.Split(text, "\n") {
			if n > 0 {
				key = ""
			}
			fmt.Fprintf(w, "%s\t%s\t\n", key, l)
		}
	}
	some := func(key, text string) {
		if text != "" {
			line(key, "%s", text)
		}
	}
	line("name", "%s", i.Name)
	state := string(i.State)
	if i.Detail != "" {
		state += " (" + i.Detail + ")"
	}
	line("state", "%s", state)
	line("desired", "%s", i.Desired)
	some("program", i.Program)
	some("file", i.File)
	if i.FileProgram != i.Program {
		some("program of the file", i.FileProgram)
	}
	line("directory", "%s", i.Dir)
	line("output", "%s", i.Log)
	line("generation", "%d", i.Generation)
	if i.PID != 0 {
		line("worker", "%d, since %s", i.PID, localTime(i.Started))
		if i.RestoredFrom != 0 {
			line("restored from", "generation %d", i.RestoredFrom)
		}
		line("memory", "%s", size(i.MemoryBytes))
	}
	if i.Reactor {
		line("kind", "reactor: its exports can be called")
	}
	some("progress", i.Progress)
	if g := i.Last; g != nil {
		line("last snapshot", "%d of %s: %d new pages, %s, pause %s", g.Number, localTime(g.Time), g.PagesNew, size(g.BytesStored), short(time.Duration(g.PauseNS)))
	}
	some("snapshot failed", i.LastFailure)
	if j := i.Journal; j.Bytes > 0 {
		line("journal", "%s since the last snapshot; to play it takes about %s at most", size(uint64(j.Bytes)), short(time.Duration(j.ReplayNS)))
	}
	if c := i.SocketCounts; c != (runtime.SocketCounts{}) {
		line("sockets", "%d; at the last restore %d went on, %d were lost, %d reset", c.Open, c.Resumed, c.Lost, c.Reset)
	}
	for _, s := range i.Sockets {
		line("", "%s", socketLine(s))
	}
	if n := i.SocketCounts.Open - len(i.Sockets); len(i.Sockets) > 0 && n > 0 {
		line("", "… and %d more", n)
	}
	for _, g := range i.SocketsGone {
		what := "lost"
		if g.Reset {
			what = "reset"
		}
		line("socket "+what, "%s: %s", between(g.Local, g.Remote), g.Why)
	}
	line("restarts", "%d", i.Restarts)
	some("last error", i.LastError)
	for _, s := range i.Warnings {
		line("warning", "%s", s)
	}
	for _, s := range i.NotApplied {
		line("not applied", "%s", s)
	}
	for _, s := range i.PendingSettings {
		line("pending", "%s", s)
	}
	line("starts", "%d, %d crashed, %d trapped", i.Stats.Starts, i.Stats.Crashes, i.Stats.Traps)
	line("has run", "%s", time.Duration(i.Stats.RanNS).Round(time.Millisecond))
	return w.Flush()
}

// socketLine describes a socket for people.
func socketLine(s runtime.SavedSocket) string {
	text := fmt.Sprintf("%d: %s %s", s.FD, s.Kind, between(s.Local, s.Remote))
	if s.Remote != "" && !s.Datagram {
		text += fmt.Sprintf(", %d bytes read, %d written", s.Position.Consumed, s.Position.Written)
	}
	since := ""
	if !s.Since.IsZero() {
		since = " since " + localTime(s.Since)
	}
	if s.Kept {
		text += ", kept" + since
	} else {
		text += ", not kept, there" + since
	}
	if s.Lives > 0 {
		text += fmt.Sprintf(", resumed %d times", s.Lives)
	}
	return text
}

// between names both ends of a connection, or the one address of another socket.
func between(local, remote string) string {
	switch {
	case remote == "" && local == "":
		return "without an address"
	case remote == "":
		return local
	}
	return local + " ← " + remote
}
