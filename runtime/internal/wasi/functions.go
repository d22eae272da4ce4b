package wasi

// ValueType is a WebAssembly value type, by the number of the binary format.
type ValueType = byte

// The value types that preview 1 uses.
const (
	I32 ValueType = 0x7f
	I64 ValueType = 0x7e
)

// ModuleName is the name of the module that programs import the functions from.
const ModuleName = "wasi_snapshot_preview1"

// Func describes one function of preview 1.
type Func struct {
	Name    string
	Params  []ValueType
	Results []ValueType // one I32, the error number; none for proc_exit
	// Import is the name under which a program imports the function, if that is
	// not Name but another function's.
	Import string
}

// handler carries out a function. The arguments are as many as the function has
// parameters. A non-nil error is an *ExitError or ErrInterrupted.
type handler func(h *Host, m memory, args []uint64) (Errno, error)

type function struct {
	Func
	call handler
}

// functions is the table behind Functions. The order is that of the
// specification; a State refers to a function by name.
var functions []function

var functionIndex map[string]int

// The table is filled here rather than in its declaration because the handlers
// refer to it.
func init() {
	const (
		i = I32
		l = I64
	)
	errno := []ValueType{I32}
	add := func(name string, call handler, params ...ValueType) {
		functions = append(functions, function{Func{Name: name, Params: params, Results: errno}, call})
	}
	add("args_get", argsGet, i, i)
	add("args_sizes_get", argsSizesGet, i, i)
	add("environ_get", environGet, i, i)
	add("environ_sizes_get", environSizesGet, i, i)
	add("clock_res_get", clockResGet, i, i)
	add("clock_time_get", clockTimeGet, i, l, i)
	add("fd_advise", fdAdvise, i, l, l, i)
	add("fd_allocate", fdAllocate, i, l, l)
	add("fd_close", fdClose, i)
	add("fd_datasync", fdDatasync, i)
	add("fd_fdstat_get", fdFdstatGet, i, i)
	add("fd_fdstat_set_flags", fdFdstatSetFlags, i, i)
	add("fd_fdstat_set_rights", fdFdstatSetRights, i, l, l)
	add("fd_filestat_get", fdFilestatGet, i, i)
	add("fd_filestat_set_size", fdFilestatSetSize, i, l)
	add("fd_filestat_set_times", fdFilestatSetTimes, i, l, l, i)
	add("fd_pread", fdPread, i, i, i, l, i)
	add("fd_prestat_get", fdPrestatGet, i, i)
	add("fd_prestat_dir_name", fdPrestatDirName, i, i, i)
	add("fd_pwrite", fdPwrite, i, i, i, l, i)
	add("fd_read", fdRead, i, i, i, i)
	add("fd_readdir", fdReaddir, i, i, i, l, i)
	add("fd_renumber", fdRenumber, i, i)
	add("fd_seek", fdSeek, i, l, i, i)
	add("fd_sync", fdSync, i)
	add("fd_tell", fdTell, i, i)
	add("fd_write", fdWrite, i, i, i, i)
	add("path_create_directory", pathCreateDirectory, i, i, i)
	add("path_filestat_get", pathFilestatGet, i, i, i, i, i)
	add("path_filestat_set_times", pathFilestatSetTimes, i, i, i, i, l, l, i)
	add("path_link", pathLink, i, i, i, i, i, i, i)
	add("path_open", pathOpen, i, i, i, i, i, l, l, i, i)
	add("path_readlink", pathReadlink, i, i, i, i, i, i)
	add("path_remove_directory", pathRemoveDirectory, i, i, i)
	add("path_rename", pathRename, i, i, i, i, i, i)
	add("path_symlink", pathSymlink, i, i, i, i, i)
	add("path_unlink_file", pathUnlinkFile, i, i, i)
	add("poll_oneoff", pollOneoff, i, i, i, i)
	add("proc_exit", procExit, i)
	add("proc_raise", procRaise, i)
	add("sched_yield", schedYield)
	add("random_get", randomGet, i, i)
	add("sock_accept", sockAccept, i, i, i)
	add("sock_recv", sockRecv, i, i, i, i, i, i)
	add("sock_send", sockSend, i, i, i, i, i)
	add("sock_shutdown", sockShutdown, i, i)

	// What follows is not of preview 1: sockets that the guest makes itself, as in
	// WasmEdge, by each of the names that its versions have.
	for _, suffix := range []string{"", "_v2"} {
		add("sock_open"+suffix, sockOpen, i, i, i)
		add("sock_bind"+suffix, sockBind, i, i, i)
		add("sock_listen"+suffix, sockListen, i, i)
		add("sock_connect"+suffix, sockConnect, i, i, i)
		add("sock_recv_from"+suffix, sockRecvFrom, i, i, i, i, i, i, i, i)
		add("sock_send_to"+suffix, sockSendTo, i, i, i, i, i, i, i)
		add("sock_getlocaladdr"+suffix, sockGetlocaladdr, i, i, i)
		add("sock_getpeeraddr"+suffix, sockGetpeeraddr, i, i, i)
	}
	add("sock_accept_v2", sockAccept, i, i, i)
	add("sock_recv_v2", sockRecv, i, i, i, i, i, i)
	add("sock_send_v2", sockSend, i, i, i, i, i)
	add("sock_getsockopt", sockGetsockopt, i, i, i, i, i)
	add("sock_setsockopt", sockSetsockopt, i, i, i, i, i)
	add("sock_getaddrinfo", sockGetaddrinfo, i, i, i, i, i, i, i, i)
	// Other parameters under the same name.
	for _, f := range []struct {
		name   string
		call   handler
		params int
	}{
		{"sock_accept", sockAcceptV1, 2}, {"sock_recv_from", sockRecvFromV1, 7},
		{"sock_getlocaladdr", sockGetlocaladdrV1, 4}, {"sock_getpeeraddr", sockGetpeeraddrV1, 4},
	} {
		add(f.name+"_v1", f.call, []ValueType{i, i, i, i, i, i, i}[:f.params]...)
		functions[len(functions)-1].Import = f.name
	}

	functionIndex = make(map[string]int, len(functions))
	for n := range functions {
		functionIndex[functions[n].Name] = n
	}
	functions[functionIndex["proc_exit"]].Results = nil
}

// Functions returns the 46 functions of preview 1 and those of WasmEdge's
// sockets, in a fixed order. The index
// of a function in the result is what [Host.Call] takes.
func Functions() []Func {
	out := make([]Func, len(functions))
	for i := range functions {
		f := functions[i].Func
		f.Params = append([]ValueType(nil), f.Params...)
		f.Results = append([]ValueType(nil), f.Results...)
		out[i] = f
	}
	return out
}

// FunctionIndex returns the index of the function of that name.
func FunctionIndex(name string) (int, bool) {
	i, ok := functionIndex[name]
	return i, ok
}
