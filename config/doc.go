// Package config is the configuration of the daemon: its schema, its defaults, how it is read from TOML, and its checks.
//
// # Shape
//
// A [Config] has one section for the daemon itself and [Settings], the defaults of every process. A table
// [process.NAME] says what is different for one process, and a side file NAME.toml beside NAME.wasm is the same table
// without its heading. [Config.Process] returns what applies to a process, table or not.
//
// # Precedence
//
// From weakest to strongest: [Default], the sections of the file, then what is said for one process: the table
// [process.NAME] or the side file, whichever has the key. If both have it, that is an error that names both, since
// whichever won would surprise one of their authors.
//
// # Errors
//
// Text that is not TOML is a *[SyntaxError], and nothing more can be said. All else is reported at once: an error that
// joins one *[KeyError] for each problem, with its key, what to do, and the line and column of the key. A key
// that no file has, because its value is a default, has no line.
//
// # Reload
//
// Each setting has a time at which a new value takes effect, see [When]. [Diff] says what has changed between two
// configurations and when that counts; [Reloadable] and [ReloadableProcess] are what counts at once.
//
// Values are never changed in place: every function returns a new Config, and those that exist may be read by any number
// of goroutines. Nothing here logs, starts a goroutine or has a global variable.
package config
