// Package folder says which programs the watched folder holds, as sets of programs that have
// settled.
//
// NAME.wasm is the program of the process NAME, and NAME.toml beside it its side file; nothing
// else in the folder counts, and neither do hidden files. A name is looked at again after each
// event and at each rescan. It is taken once its two files have not changed for the settling
// time, so that a file which is being copied is not started and a file that is replaced is
// never seen as missing. Only then is it read and hashed, and only if it is another file than
// the last time.
//
// A [Watcher] starts nothing; [Watcher.Run] has one goroutine, which owns all of its state, and
// beside it the one of fsnotify, which ends with it. What has settled is decided by plan, a
// function of what was seen and when; the watcher around it does the looking.
package folder
