package folder

import (
	"io/fs"
	"syscall"
)

// identity returns the parts of a file's identity that only the system has.
func identity(info fs.FileInfo) file {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return file{}
	}
	return file{dev: st.Dev, ino: st.Ino, ctime: st.Ctim.Nano()}
}
