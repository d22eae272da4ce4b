//go:build !linux

package folder

import "io/fs"

// identity returns nothing: elsewhere a file is known by its size and time alone.
func identity(fs.FileInfo) file { return file{} }
