package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

// stackJSON is what perdure stack --json prints.
type stackJSON struct {
	Name       string       `json:"name"`
	Generation uint64       `json:"generation"`
	Time       time.Time    `json:"time"`
	Program    string       `json:"program"`
	Ended      bool         `json:"ended"`
	ExitCode   uint32       `json:"exit_code"`
	Restarts   uint64       `json:"restarts"`
	Idle       bool         `json:"idle"`
	Call       string       `json:"call"`
	Pending    *pendingJSON `json:"pending"`
	Frames     []frameJSON  `json:"frames"`
}

type pendingJSON struct {
	Function string   `json:"function"`
	Args     []uint64 `json:"args"`
	SinceNS  int64    `json:"since_ns"`
	LeftNS   int64    `json:"left_ns"`
}

type frameJSON struct {
	Function      string      `json:"function"`
	FunctionIndex uint32      `json:"function_index"`
	Offset        uint32      `json:"offset"`
	InCall        bool        `json:"in_call"`
	Locals        []valueJSON `json:"locals"`
	Operands      []valueJSON `json:"operands"`
}

type valueJSON struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

func newStackCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stack NAME",
		Short: "print where a process is: its call stack",
		Long: `Print the call stack of a process as it is in its newest generation, innermost function
first. A frame has the function's name, its index, and where in the program file the
instruction begins that is under way: a call, or the loop whose next round is due.
It may be printed while the process runs.

With --json: an object with name, generation, time, program (SHA-256), ended, exit_code, restarts,
idle (a reactor that nobody calls), call (the function of a reactor that is being called),
pending (the host call that it waits in: function, args, since_ns, left_ns, which is -1
if nothing but an event ends it; or null) and frames, an array of objects with function,
function_index, offset, in_call, locals and operands, arrays of objects with type and value.`,
		Example: `  perdure stack prog
  perdure stack prog --locals
  perdure stack prog --generation 7 --json | jq '.frames[0]'`,
		Args: oneProcess,
	}
	place := addStateFlag(cmd, env).addDaemonFlag(cmd)
	number := cmd.Flags().Uint64("generation", 0, "`NUMBER` of the generation (default: the newest that is well)")
	locals := cmd.Flags().Bool("locals", false, "print local variables and operands too")
	asJSON := addJSONFlag(cmd)
	cmd.ValidArgsFunction = place.complete
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := place.saved(args[0], nil)
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("generation") && *number == 0 {
			return errors.New("--generation 0: generations count from 1")
		}
		bt, err := s.Backtrace(cmd.Context(), *number)
		if errors.Is(err, memsnap.ErrNotFound) {
			if *number == 0 {
				return fmt.Errorf("%s has no generations yet", args[0])
			}
			return fmt.Errorf("%s has no generation %d; see perdure generations %s", args[0], *number, args[0])
		}
		if err != nil {
			return err
		}
		t := newTalk(env.stderr)
		for _, sk := range bt.Skipped {
			t.warn("generation %d is passed over: %v", sk.Number, sk.Err)
		}
		if bt.Unnamed != nil {
			t.warn("there are no names of functions: %v", bt.Unnamed)
		}
		st := describeStack(args[0], bt)
		if *asJSON {
			return writeJSON(env.stdout, st)
		}
		return printStack(env.stdout, st, *locals)
	}
	return cmd
}

func describeStack(name string, bt *runtime.Backtrace) stackJSON {
	g := bt.Generation
	st := stackJSON{
		Name: name, Generation: g.Number, Time: g.Time, Program: bt.Program,
		Ended: bt.Ended, ExitCode: bt.ExitCode, Restarts: bt.Restarts,
		Idle: bt.Idle, Call: bt.Call, Frames: []frameJSON{},
	}
	if p := bt.Pending; p != nil {
		st.Pending = &pendingJSON{Function: p.Function, Args: append([]uint64{}, p.Args...), SinceNS: p.Since, LeftNS: p.Left}
	}
	values := func(vs []runtime.FrameValue) []valueJSON {
		out := make([]valueJSON, len(vs))
		for i, v := range vs {
			out[i] = valueJSON(v)
		}
		return out
	}
	for _, f := range bt.Frames {
		st.Frames = append(st.Frames, frameJSON{
			Function: f.Name, FunctionIndex: f.Func, Offset: f.Offset, InCall: f.InCall,
			Locals: values(f.Locals), Operands: values(f.Operands),
		})
	}
	return st
}

func printStack(out io.Writer, st stackJSON, locals bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, generation %d of %s\n", st.Name, st.Generation, localTime(st.Time))
	switch p := st.Pending; {
	case st.Ended:
		fmt.Fprintf(&b, "ended with status %d\n", st.ExitCode)
	case st.Idle:
		b.WriteString("waits for calls\n")
	case p == nil:
		b.WriteString("running its own code\n")
	default:
		fmt.Fprintf(&b, "waits in %s for %s", p.Function, short(time.Duration(p.SinceNS)))
		if p.LeftNS >= 0 {
			fmt.Fprintf(&b, ", at most %s more", short(time.Duration(p.LeftNS)))
		}
		b.WriteString("\n")
	}
	if st.Call != "" {
		fmt.Fprintf(&b, "in a call of %q\n", st.Call)
	}
	w := newTable(&b, 0)
	for i, f := range st.Frames {
		name := f.Function
		if name == "" {
			name = "?"
		}
		fmt.Fprintf(w, "#%d\t%s\tfunction %d\tat 0x%x\n", i, name, f.FunctionIndex, f.Offset)
		if locals {
			for k, v := range f.Locals {
				fmt.Fprintf(w, "\t  local %d\t%s %s\t\n", k, v.Type, v.Value)
			}
			for k, v := range f.Operands {
				fmt.Fprintf(w, "\t  operand %d\t%s %s\t\n", k, v.Type, v.Value)
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, b.String())
	return err
}
