package journal

import "strconv"

// op is what a record is about. The numbers are part of the format.
type op uint16

const (
	opBase        op = 1 // a cut
	opEnd         op = 2 // the journal goes on in the next segment
	opBirth       op = 3 // the beginning of a life: what the host's State was
	opIntent      op = 4 // a call with an effect is about to be carried out: how things stand
	opLive        op = 5 // what follows was recorded after the past had been played
	opGap         op = 6 // answers that come here are missing
	opEarly       op = 7 // what a connection had received, by the call under way at a crash
	opNow         op = 16
	opResolution  op = 17
	opRandom      op = 18
	opPoll        op = 19
	opInterrupted op = 20
	opOpen        op = 21
	opMkdir       op = 22
	opUnlink      op = 23
	opRename      op = 24
	opLink        op = 25
	opSymlink     op = 26
	opReadlink    op = 27
	opReadDir     op = 28
	opClose       op = 29
	opStat        op = 30
	opSetTimes    op = 31
	opRead        op = 32
	opWrite       op = 33
	opSeek        op = 34
	opTruncate    op = 35
	opAllocate    op = 36
	opAdvise      op = 37
	opSync        op = 38
	opAccept      op = 39
	opRecv        op = 40
	opSend        op = 41
	opShutdown    op = 42
	opMakeSocket  op = 43
	opBind        op = 44
	opListen      op = 45
	opConnect     op = 46
	opRecvFrom    op = 47
	opSendTo      op = 48
	opOption      op = 49
	opSetOption   op = 50
	opSocketName  op = 51
	opResolve     op = 52
	opCall        op = 64 // a function of the guest is called: n 8, n arguments 8 each, then its name
	opReturn      op = 65 // it has returned, or trapped; its key has what
)

var opNames = map[op]string{
	opBase: "cut", opEnd: "end", opBirth: "birth", opIntent: "intent", opLive: "live", opGap: "gap", opEarly: "early",
	opNow: "now", opResolution: "resolution", opRandom: "random", opPoll: "poll", opInterrupted: "interrupted",
	opOpen: "open", opMkdir: "mkdir", opUnlink: "unlink", opRename: "rename", opLink: "link", opSymlink: "symlink",
	opReadlink: "readlink", opReadDir: "readdir", opClose: "close", opStat: "stat", opSetTimes: "settimes",
	opRead: "read", opWrite: "write", opSeek: "seek", opTruncate: "truncate", opAllocate: "allocate",
	opAdvise: "advise", opSync: "sync", opAccept: "accept", opRecv: "recv", opSend: "send", opShutdown: "shutdown",
	opMakeSocket: "socket", opBind: "bind", opListen: "listen", opConnect: "connect", opRecvFrom: "recvfrom",
	opSendTo: "sendto", opOption: "getsockopt", opSetOption: "setsockopt", opSocketName: "sockname", opResolve: "resolve",
	opCall: "call", opReturn: "return",
}

// String returns the name of the operation.
func (o op) String() string {
	if name, ok := opNames[o]; ok {
		return name
	}
	return "operation " + strconv.Itoa(int(o))
}

// answers tells whether a record of it is something that the guest's calls ask for; the others
// are marks.
func (o op) answers() bool { return o >= opNow || o == opIntent }
