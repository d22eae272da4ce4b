package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"perdure/memsnap"
	"perdure/runtime"
)

// parseGeneration parses the number of a generation.
func parseGeneration(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no generation: they are numbered 1, 2, 3 …", s)
	}
	return n, nil
}

// splitGeneration parses NAME[@GEN]. Without a number, generation is 0, which is the newest that
// is well; so it is behind a last @ that nothing follows.
func splitGeneration(s string) (name string, generation uint64, err error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 || strings.Trim(s[at+1:], "0123456789") != "" {
		return s, 0, nil
	}
	name = s[:at]
	if s[at+1:] == "" {
		return name, 0, nil
	}
	generation, err = parseGeneration(s[at+1:])
	return name, generation, err
}

// noGeneration turns the error of a generation that is not there into one for people.
func noGeneration(err error, name string, generation uint64) error {
	if !errors.Is(err, memsnap.ErrNotFound) || errors.Is(err, memsnap.ErrNoSection) {
		return err
	}
	if generation == 0 {
		return fmt.Errorf("%s has no generations yet", name)
	}
	return fmt.Errorf("%s has no generation %d; see perdure generations %s", name, generation, name)
}

// warnOf tells what was damaged, and did no harm, when a process was copied.
func warnOf(t *talk, c runtime.Copied) {
	for _, sk := range c.Skipped {
		t.warn("generation %d is passed over: %v", sk.Number, sk.Err)
	}
	for _, err := range c.Bad {
		t.warn("damage that did no harm, since there is another copy: %v", err)
	}
}

// completeGenerations completes a name, and then numbers of generations, at most so many.
func (p *place) completeGenerations(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return p.complete(cmd, args, word)
		}
		if len(args) > most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.numbers(args[0], ""), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeOf completes the value of a flag: a generation of the process that is named.
func (p *place) completeOf(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return p.numbers(args[0], ""), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeNameAt completes NAME[@GEN] as the first argument; then is for the others.
func (p *place) completeNameAt(then cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, then
		}
		if name, _, ok := strings.Cut(word, "@"); ok {
			return p.numbers(name, name+"@"), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		}
		return p.complete(cmd, args, word)
	}
}

// numbers lists the generations of a process for a shell, newest first.
func (p *place) numbers(name, prefix string) []string {
	s, err := p.saved(name, nil)
	if err != nil {
		return nil
	}
	infos, err := s.Generations()
	if err != nil {
		return nil
	}
	var list []string
	for i := len(infos) - 1; i >= 0; i-- {
		list = append(list, fmt.Sprintf("%s%d\t%s", prefix, infos[i].Number, localTime(infos[i].Time)))
	}
	return list
}

// newestOf returns the number of the newest generation, well or not; 0 if there is none.
func newestOf(s *runtime.Saved) (uint64, error) {
	infos, err := s.Generations()
	if err != nil || len(infos) == 0 {
		return 0, err
	}
	return infos[len(infos)-1].Number, nil
}
