//go:build !linux

package main

import "os"

// lineKeys changes nothing here: what detaches is Ctrl-C, or a key of the line that is entered.
func lineKeys(*os.File) (restore func(), err error) { return func() {}, nil }
