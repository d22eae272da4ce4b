package main

import (
	"fmt"
	goruntime "runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"perdure/runtime"
)

// versionJSON is what perdure version --json prints.
type versionJSON struct {
	Version  string         `json:"version"`
	Commit   string         `json:"commit"`
	Modified bool           `json:"modified"`
	Go       string         `json:"go"`
	OS       string         `json:"os"`
	Arch     string         `json:"arch"`
	Formats  map[string]int `json:"formats"`
}

func newVersionCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "print the version of perdure",
		Long: `Print the version of perdure, the commit that it was built from, the version of Go and the system
that it was built with and for, and the versions of the formats that it writes to disk.

With --json: an object with version, commit (empty if it is not known), modified (whether the
sources had changes since), go, os, arch and formats, which has a number for each name.`,
		Example: `  perdure version
  perdure version --json`,
		Args: cobra.NoArgs,
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := versionJSON{Version: version(), Go: goruntime.Version(), OS: goruntime.GOOS, Arch: goruntime.GOARCH, Formats: map[string]int{}}
		v.Commit, v.Modified = commit()
		for _, f := range runtime.Formats() {
			v.Formats[f.Name] = f.Version
		}
		if *asJSON {
			return writeJSON(env.stdout, v)
		}
		if _, err := fmt.Fprintf(env.stdout, "perdure %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch); err != nil {
			return err
		}
		if v.Commit != "" {
			changed := ""
			if v.Modified {
				changed = ", with changes"
			}
			if _, err := fmt.Fprintf(env.stdout, "commit %s%s\n", v.Commit, changed); err != nil {
				return err
			}
		}
		line := "formats:"
		for _, f := range runtime.Formats() {
			line += fmt.Sprintf(" %s %d", f.Name, f.Version)
		}
		_, err := fmt.Fprintln(env.stdout, line)
		return err
	}
	return cmd
}

// version returns what the go command stamped into the binary: a tag, or a commit with its
// time.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// commit returns the commit that the binary was built from, and whether the sources had changes; empty if it is not known.
func commit() (hash string, modified bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			hash = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	return hash, modified
}
