package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"perdure/config"
	"perdure/memsnap"
	"perdure/runtime"
)

// runCommand is perdure run: one program in the foreground.
type runCommand struct {
	env   *environment
	cmd   *cobra.Command
	place *place
	talk  *talk

	// Flags and arguments.
	name, cache, memory string
	durability          string
	divergence          string
	every               time.Duration
	dirs, vars, sockets []string
	connect, bind       []string
	keeper              keeperPlace
	fresh, integrity    bool
	keep                uint64
	minFree             string
	program             string
	args                []string

	// Events only, which do not come at once.
	lastFailure string // of a generation, said already
}

func newRunCommand(env *environment) *cobra.Command {
	r := &runCommand{env: env}
	r.cmd = &cobra.Command{
		Use:   "run [flags] PROGRAM.wasm [ARG...]",
		Short: "run a program in the foreground, persistently",
		Long: `Run a program in the foreground. Its state is saved every now and then; the same command
later goes on where it was, however it ended: by Ctrl-C, by kill -9, with the machine.
A program that has ended starts anew. Flags end at the program: what follows is its own. Without a
program, with --name alone, the process goes on with the copy of its program that it keeps.

SIGINT and SIGTERM suspend the program: it is saved, and perdure exits with status 130 or 143
(SIGHUP: 129). A second one, half a second later or more, exits at once. SIGUSR1 saves the
program and lets it run.

Exit status: the program's own; 125 an error of Perdure, 126 the program is refused,
127 it is not found, 134 it did what it must not (a trap), 130 and 143 it is suspended.`,
		Example: `  perdure run prog.wasm one two
  perdure run --name blue --every 200ms --env LANG=C prog.wasm
  perdure run --dir data:/data --dir /etc:/etc:ro prog.wasm
  perdure run --listen tcp://127.0.0.1:8080 server.wasm
  perdure run --fresh prog.wasm`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && r.name == "" {
				return errors.New("which program? perdure run [flags] PROGRAM.wasm [ARG...]; see perdure run --help")
			}
			return nil
		},
		ValidArgsFunction: completeProgram,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				r.program, r.args = args[0], args[1:]
			}
			return r.run(cmd.Context())
		},
	}
	r.talk = newTalk(env.stderr)
	f := r.cmd.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	r.place = addStateFlag(r.cmd, env)
	f.StringVar(&r.name, "name", "", "`NAME` of the process (default: the file name without .wasm)")
	f.DurationVar(&r.every, "every", time.Second, "`INTERVAL` between snapshots; 0: only at the end and on SIGUSR1")
	f.StringArrayVar(&r.dirs, "dir", nil, "`HOST[:GUEST[:ro]]`: a directory that the program may use (repeatable)")
	f.StringArrayVar(&r.vars, "env", nil, "`K=V`: a variable of its environment (repeatable)")
	f.StringArrayVar(&r.sockets, "listen", nil, "`tcp://HOST:PORT`: a listening socket; also tcp4, tcp6, udp and unix:///PATH\n(repeatable; preopened after the directories)")
	f.StringArrayVar(&r.connect, "allow-connect", nil, "`tcp://HOST:PORT`: where the program may connect to; HOST is also a range or a name,\n* stands for all; also udp and unix:///PATH (repeatable)")
	f.StringArrayVar(&r.bind, "allow-bind", nil, "`tcp://HOST:PORT`: where the program may bind sockets of its own (repeatable)")
	f.StringVar(&r.keeper.shared, "keeper", "", "`PATH` of a shared keeper of sockets (default: one is started where it is needed)")
	f.DurationVar(&r.keeper.keepFor, "keep-for", 5*time.Minute, "`TIME` for which sockets are kept when the program does not run")
	f.BoolVar(&r.fresh, "fresh", false, "start anew; the old state stays, as the ended process NAME.ended-N")
	f.StringVar(&r.durability, "durability", "process", "`LEVEL`: what a crash spares beyond the last snapshot. process: everything, when only the\nprogram dies; disk: also when the power fails; none: nothing")
	f.Uint64Var(&r.keep, "keep", memsnap.DefaultPolicy().MaxSnapshots, "`N`: how many snapshots are kept; 0: all")
	f.StringVar(&r.minFree, "min-free", "", "`SPACE` on the disk, such as 1GiB or 5%, below which the oldest snapshots go, and when none\nmay go, no new ones are taken (default 64MiB, or 1% if that is more)")
	f.BoolVar(&r.integrity, "integrity", false, "when the newest snapshot is damaged, refuse to go on from an older one")
	f.StringVar(&r.divergence, "on-divergence", "generation", "`WHAT` becomes of a process that cannot be brought to where it was when it was killed.\ngeneration: it goes on from its last snapshot; stop: it does not go on")
	f.StringVar(&r.memory, "memory", "4GiB", "`LIMIT` of the program's memory, such as 64MiB or 1GiB")
	addCacheFlag(r.cmd, &r.cache)
	f.BoolVarP(&r.talk.quiet, "quiet", "q", false, "say only what went wrong")
	f.BoolVarP(&r.talk.verbose, "verbose", "v", false, "tell of every snapshot")
	r.cmd.MarkFlagsMutuallyExclusive("quiet", "verbose")
	// The only error is a flag that does not exist.
	_ = r.cmd.RegisterFlagCompletionFunc("name", r.place.complete)
	return r.cmd
}

// options makes the options of the runtime from flags and arguments.
func (r *runCommand) options() (o runtime.Options, err error) {
	if r.name == "" && !r.cmd.Flags().Changed("name") {
		r.name = nameOf(r.program)
	}
	o = runtime.Options{
		Name: r.name, Program: r.program, Every: r.every, Fresh: r.fresh,
		Args: append([]string{filepath.Base(r.program)}, r.args...), Events: r.event,
		CommandOnly: true,
	}
	if r.program == "" {
		o.Args[0] = r.name + ".wasm"
	}
	if o.Keep, err = r.policy(); err != nil {
		return o, err
	}
	if o.Key, err = r.place.key(); err != nil {
		return o, err
	}
	if o.Every < 0 {
		return o, fmt.Errorf("--every %v: the interval cannot be negative", r.every)
	}
	if o.Dir, err = r.place.process(r.name); err != nil {
		return o, err
	}
	if o.CacheDir, err = cacheDir(r.cmd, r.env, r.cache); err != nil {
		return o, err
	}
	if o.MemoryLimit, err = parseMemory(r.memory); err != nil {
		return o, fmt.Errorf("--memory %s: %w", r.memory, err)
	}
	if o.Durability, err = runtime.ParseDurability(r.durability); err != nil {
		return o, fmt.Errorf("--durability: %w", err)
	}
	if o.OnDivergence, err = runtime.ParseOnDivergence(r.divergence); err != nil {
		return o, fmt.Errorf("--on-divergence: %w", err)
	}
	for _, s := range r.dirs {
		d, err := parseDir(s)
		if err == nil {
			err = isDir(d.Host)
		}
		if err != nil {
			return o, fmt.Errorf("--dir %s: %w", s, err)
		}
		o.Preopens = append(o.Preopens, d)
	}
	for _, s := range r.vars {
		if k, _, ok := strings.Cut(s, "="); !ok || k == "" {
			return o, fmt.Errorf("--env %s: write it as NAME=VALUE", s)
		}
		o.Env = append(o.Env, s)
	}
	for _, s := range r.sockets {
		l, err := parseListener(s)
		if err != nil {
			return o, fmt.Errorf("--listen %s: %w", s, err)
		}
		o.Listeners = append(o.Listeners, l)
	}
	for _, allow := range []struct {
		flag  string
		texts []string
		rules *[]runtime.SocketRule
	}{{"allow-connect", r.connect, &o.AllowConnect}, {"allow-bind", r.bind, &o.AllowBind}} {
		for _, s := range allow.texts {
			rule, err := parseAllow(s)
			if err != nil {
				return o, fmt.Errorf("--%s %s: %w", allow.flag, s, err)
			}
			*allow.rules = append(*allow.rules, rule)
		}
	}
	if r.keeper.keepFor < 0 {
		return o, fmt.Errorf("--keep-for %v: the time cannot be negative", r.keeper.keepFor)
	}
	o.Sockets = r.keeper.connect(&o, func(what string) { r.talk.warn("%s", what) })
	return o, nil
}

// policy says which generations are kept.
func (r *runCommand) policy() (memsnap.Policy, error) {
	p := memsnap.DefaultPolicy()
	p.MaxSnapshots = r.keep
	p.Integrity = r.integrity // else an older generation is better than none, and run says so
	if r.minFree != "" {
		var space config.Space
		if err := space.UnmarshalText([]byte(r.minFree)); err != nil {
			return p, fmt.Errorf("--min-free %s: %w", r.minFree, err)
		}
		p.MinFree = memsnap.Space{Bytes: uint64(space.Bytes), Percent: float64(space.Percent)}
	}
	return p, nil
}

func (r *runCommand) run(ctx context.Context) error {
	o, err := r.options()
	if err != nil {
		return err
	}
	err = r.once(ctx, o)
	if runtime.IsDivergence(err) && o.OnDivergence != runtime.DivergenceStop {
		r.talk.warn("%v; it goes on from its last snapshot instead, and what it did since happens again", err)
		o.Fresh = false
		err = r.once(ctx, o)
	}
	return err
}

// once runs the program until it ends or is suspended.
func (r *runCommand) once(ctx context.Context, o runtime.Options) (err error) {
	defer r.talk.rest()
	ctx, in := watchSignals(ctx, r.talk)
	defer in.stop()
	p, err := runtime.Open(ctx, o)
	if errors.Is(err, context.Canceled) && in.signal() != 0 {
		r.talk.say("%s was stopped before it began", o.Name)
		return &statusError{status: exitSignal + int(in.signal())}
	}
	if err != nil {
		return r.explain(err)
	}
	defer func() {
		if cerr := p.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	in.begin(p)
	res, err := p.Run(ctx)
	in.stop()
	var trap *runtime.TrapError
	switch {
	case errors.As(err, &trap):
		r.sayTrap(trap, res)
		return &statusError{status: exitTrap}
	case err != nil && res.Suspended:
		next := "nothing was saved before, so that the next run starts anew"
		if res.Generation != 0 {
			next = fmt.Sprintf("what was saved before is intact, and the next run goes on from generation %d", res.Generation)
		}
		return fmt.Errorf("%s was stopped, but its last moments could not be saved: %w; %s", o.Name, err, next)
	case err != nil:
		return err
	case res.Suspended:
		r.talk.say("%s is suspended in generation %d; go on with: %s", o.Name, res.Generation, r.again(""))
		return &statusError{status: exitSignal + int(in.signal())}
	case res.ExitCode != 0:
		return &statusError{status: int(res.ExitCode & 0xff)}
	}
	return nil
}

// event says what happens to the process.
func (r *runCommand) event(e runtime.Event) {
	t := r.talk
	switch e := e.(type) {
	case runtime.ProgressEvent:
		t.progress(e, cmp.Or(r.program, r.name))
	case runtime.StartedEvent:
		t.rest()
		switch {
		case e.Ended:
			t.say("%s had ended with status %d; it starts anew", r.name, e.ExitCode)
		case t.verbose:
			t.say("%s starts", r.name)
		}
	case runtime.RetiredEvent:
		t.rest()
		t.say("the old state of %s is kept as %s", r.name, filepath.Base(e.Dir))
	case runtime.RestoredEvent:
		t.rest()
		t.say("%s goes on from generation %d of %s (restored in %d ms)", r.name, e.Generation.Number,
			localTime(e.Generation.Time), e.Took.Milliseconds())
	case runtime.CommittedEvent:
		r.lastFailure = ""
		if t.verbose {
			t.say("%s", e)
		}
	case runtime.SocketsEvent:
		if t.verbose {
			t.say("%s", e)
		}
	case runtime.CommitFailedEvent:
		// A full disk stays full for a while: once is enough.
		if s := e.Err.Error(); s != r.lastFailure || t.verbose {
			r.lastFailure = s
			t.warn("%s", e)
		}
	case runtime.LowSpaceEvent:
		if e.Tries == 1 || t.verbose {
			t.warn("%s", e)
		}
	default:
		t.warn("%s", e)
	}
}

// explain adds what to do about an error.
func (r *runCommand) explain(err error) error {
	var other *runtime.OtherProgramError
	var locked *runtime.LockedError
	switch {
	case errors.As(err, &other):
		return fmt.Errorf("%w; use --name for a process of its own, or --fresh to start anew", err)
	case errors.As(err, &locked):
		return fmt.Errorf("%w; stop it first, or use --name for another process", err)
	}
	return err
}

// sayTrap says what the guest did, with its backtrace.
func (r *runCommand) sayTrap(e *runtime.TrapError, res runtime.Result) {
	r.talk.warn("%s trapped: %s", r.name, e.What)
	for i, f := range e.Stack {
		fmt.Fprintf(r.env.stderr, "  %2d  %s\n", i, f)
	}
	if res.Generation == 0 {
		r.talk.say("nothing was saved before; the next run starts anew")
		return
	}
	r.talk.say("its state is intact: the next run goes on from generation %d; to start anew: %s", res.Generation, r.again("--fresh"))
}

// againFlags are the flags that belong to the command that goes on: all but --fresh.
var againFlags = []string{"state", "name", "every", "dir", "env", "listen", "allow-connect", "allow-bind", "keeper", "keep-for", "durability", "on-divergence", "memory", "keep", "min-free", "integrity", "key-file", "cache", "quiet", "verbose"}

// again returns the command that goes on with the process, with one flag more if that is not empty.
func (r *runCommand) again(flag string) string {
	words := []string{r.env.name, "run"}
	for _, name := range againFlags {
		f := r.cmd.Flags().Lookup(name)
		switch {
		case !f.Changed:
		case f.Value.Type() == "bool" && f.Value.String() == "false":
		case f.Value.Type() == "bool":
			words = append(words, "--"+name)
		case f.Value.Type() == "stringArray":
			// The only error is a flag that does not exist.
			values, _ := r.cmd.Flags().GetStringArray(name)
			for _, v := range values {
				words = append(words, "--"+name, v)
			}
		default:
			words = append(words, "--"+name, f.Value.String())
		}
	}
	if flag != "" {
		words = append(words, flag)
	}
	if r.program == "" {
		return shellQuote(words)
	}
	if strings.HasPrefix(r.program, "-") {
		words = append(words, "--")
	}
	return shellQuote(append(append(words, r.program), r.args...))
}
