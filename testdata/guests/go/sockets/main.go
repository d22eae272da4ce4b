// Makes sockets of its own, through WasmEdge's functions as the socket libraries for Go do.
//
// Usage: sockets dial ADDRESS [from] | listen ADDRESS | datagrams ADDRESS | given | resolve NAME. Addresses are IP:PORT. Dial sends what comes from
// the standard input and prints what comes back, one line at a time, with from received by sock_recv_from; the others echo. Given echoes datagrams on descriptor 3.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

//go:wasmimport wasi_snapshot_preview1 sock_open
func sockOpen(family, typ int32, fd unsafe.Pointer) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_bind
func sockBind(fd int32, addr unsafe.Pointer, port uint32) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_listen
func sockListen(fd int32, backlog int32) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_connect
func sockConnect(fd int32, addr unsafe.Pointer, port uint32) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_getsockopt
func sockGetsockopt(fd int32, level, name uint32, value unsafe.Pointer, size uint32) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_setsockopt
func sockSetsockopt(fd int32, level, name uint32, value unsafe.Pointer, size uint32) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_getlocaladdr
func sockGetlocaladdr(fd int32, addr, port unsafe.Pointer) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_recv_from
func sockRecvFrom(fd int32, iov unsafe.Pointer, n uint32, addr unsafe.Pointer, flags uint32, port, size, roflags unsafe.Pointer) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_send_to
func sockSendTo(fd int32, iov unsafe.Pointer, n uint32, addr unsafe.Pointer, port uint32, flags uint32, size unsafe.Pointer) syscall.Errno

//go:wasmimport wasi_snapshot_preview1 sock_getaddrinfo
func sockGetaddrinfo(node unsafe.Pointer, nodeLen uint32, service unsafe.Pointer, serviceLen uint32, hints, res unsafe.Pointer, most uint32, n unsafe.Pointer) syscall.Errno

// buffer is a pointer and a length, as addresses and vectors have them.
type buffer struct{ p, n uint32 }

func bufferOf(b []byte) *buffer {
	return &buffer{uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint32(len(b))}
}

func check(what string, errno syscall.Errno) {
	if errno != 0 {
		fmt.Printf("%s: %v\n", what, errno)
		os.Exit(3)
	}
}

const (
	datagram = 1
	stream   = 2
)

func open(a netip.AddrPort, typ int32) int32 {
	family := int32(1)
	if a.Addr().Is6() {
		family = 2
	}
	var fd int32
	check("open", sockOpen(family, typ, unsafe.Pointer(&fd)))
	one := int32(1)
	check("setsockopt", sockSetsockopt(fd, 0, 0, unsafe.Pointer(&one), 4))
	return fd
}

func bind(fd int32, a netip.AddrPort) {
	raw := a.Addr().AsSlice()
	check("bind", sockBind(fd, unsafe.Pointer(bufferOf(raw)), uint32(a.Port())))
	runtime.KeepAlive(raw)
	var name [128]byte
	var port uint32
	check("getlocaladdr", sockGetlocaladdr(fd, unsafe.Pointer(bufferOf(name[:])), unsafe.Pointer(&port)))
	fmt.Printf("bound to port %d, family %d\n", port, name[0])
}

// sender reads from a stream, each time asking who sent that.
type sender struct{ syscall.RawConn }

func (s sender) Read(b []byte) (n int, err error) {
	errno := syscall.EAGAIN
	if e := s.RawConn.Read(func(fd uintptr) bool {
		var name [128]byte
		var port, size, ro uint32
		errno = sockRecvFrom(int32(fd), unsafe.Pointer(bufferOf(b)), 1, unsafe.Pointer(bufferOf(name[:])), 0,
			unsafe.Pointer(&port), unsafe.Pointer(&size), unsafe.Pointer(&ro))
		n = int(size)
		return errno != syscall.EAGAIN
	}); e != nil {
		return 0, e
	}
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

func dial(a netip.AddrPort, from bool) {
	fd := open(a, stream)
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		panic(err)
	}
	raw := a.Addr().AsSlice()
	errno := sockConnect(fd, unsafe.Pointer(bufferOf(raw)), uint32(a.Port()))
	runtime.KeepAlive(raw)
	f := os.NewFile(uintptr(fd), "")
	rc, err := f.SyscallConn()
	if err != nil {
		panic(err)
	}
	if errno == syscall.EINPROGRESS {
		fmt.Println("dialling")
		asked := false
		err = rc.Write(func(uintptr) bool {
			if !asked {
				asked = true
				return false
			}
			var v int32
			errno = sockGetsockopt(fd, 0, 2, unsafe.Pointer(&v), 4)
			if errno == 0 {
				errno = syscall.Errno(v)
			}
			return true
		})
		if err != nil {
			panic(err)
		}
	}
	check("connect", errno)
	c, err := net.FileConn(f)
	if err != nil {
		panic(err)
	}
	fmt.Println("connected")
	back := bufio.NewReader(c)
	if from {
		back = bufio.NewReader(sender{rc})
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Fprintln(c, in.Text())
		line, err := back.ReadString('\n')
		if err != nil {
			fmt.Println("read:", err)
			os.Exit(4)
		}
		fmt.Print(line)
	}
}

func listen(a netip.AddrPort) {
	fd := open(a, stream)
	bind(fd, a)
	check("listen", sockListen(fd, 100))
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		panic(err)
	}
	l, err := net.FileListener(os.NewFile(uintptr(fd), ""))
	if err != nil {
		panic(err)
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			fmt.Println("accept:", err)
			os.Exit(5)
		}
		go func() {
			_, err := io.Copy(c, c)
			fmt.Println("over:", err)
			c.Close()
		}()
	}
}

func echo(fd int32) {
	b := make([]byte, 2048)
	for {
		var name [128]byte
		var port, n, ro uint32
		check("recv_from", sockRecvFrom(fd, unsafe.Pointer(bufferOf(b)), 1, unsafe.Pointer(bufferOf(name[:])), 0,
			unsafe.Pointer(&port), unsafe.Pointer(&n), unsafe.Pointer(&ro)))
		check("send_to", sockSendTo(fd, unsafe.Pointer(bufferOf(b[:n])), 1, unsafe.Pointer(bufferOf(name[:])), port, 0, unsafe.Pointer(&n)))
	}
}

func resolve(name string) {
	var data [4][26]byte
	var addrs [4]struct{ family, size, data uint32 }
	var infos [4]struct {
		flags                                            uint16
		family, typ                                      uint8
		protocol, addrLen, addr, canon, canonLen, canonN uint32
	}
	for i := range infos {
		addrs[i].data = uint32(uintptr(unsafe.Pointer(&data[i])))
		infos[i].addr = uint32(uintptr(unsafe.Pointer(&addrs[i])))
		if i > 0 {
			infos[i-1].canonN = uint32(uintptr(unsafe.Pointer(&infos[i])))
		}
	}
	first := uint32(uintptr(unsafe.Pointer(&infos)))
	hints := infos[0]
	hints.family, hints.typ = 1, stream
	node, service := append([]byte(name), 0), []byte("80\x00")
	var n uint32
	check("getaddrinfo", sockGetaddrinfo(unsafe.Pointer(&node[0]), uint32(len(node)), unsafe.Pointer(&service[0]), uint32(len(service)),
		unsafe.Pointer(&hints), unsafe.Pointer(&first), 4, unsafe.Pointer(&n)))
	for i := range n {
		ip, _ := netip.AddrFromSlice(data[i][2:6])
		fmt.Printf("%v port %d family %d\n", ip, int(data[i][0])<<8|int(data[i][1]), addrs[i].family)
	}
}

func main() {
	var a netip.AddrPort
	if len(os.Args) > 2 && os.Args[1] != "resolve" {
		a = netip.MustParseAddrPort(os.Args[2])
	}
	switch os.Args[1] {
	case "dial":
		dial(a, len(os.Args) > 3)
	case "listen":
		listen(a)
	case "datagrams":
		fd := open(a, datagram)
		bind(fd, a)
		fmt.Println("waiting")
		echo(fd)
	case "given":
		fmt.Println("waiting")
		echo(3)
	case "resolve":
		resolve(os.Args[2])
	}
}
