package main

import (
	"os"
	"path/filepath"
	"time"

	"perdure/internal/keeper"
	"perdure/runtime"
)

// keeperPlace says which keeper a process uses.
type keeperPlace struct {
	shared  string // the path of one that runs already; empty: one for this process alone
	keepFor time.Duration
}

// connect returns the function with which the runtime connects to the keeper, nil if the
// process has no use for one.
func (k *keeperPlace) connect(o *runtime.Options, report func(string)) func() (runtime.SocketKeeper, error) {
	p := keeper.Place{Path: k.shared, Owner: filepath.Base(o.Dir), KeepFor: k.keepFor, Own: k.shared == "", Report: report}
	if p.Own {
		p.Path = filepath.Join(filepath.Dir(o.Dir), keepersDir, p.Owner+".sock")
		if _, err := os.Lstat(p.Path); err != nil && len(o.Listeners)+len(o.AllowConnect)+len(o.AllowBind) == 0 {
			return nil
		}
	}
	return p.Connect
}
