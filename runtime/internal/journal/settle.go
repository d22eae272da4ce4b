package journal

import (
	"encoding/binary"
	"strings"

	"perdure/runtime/internal/wasi"
)

// standing is how things stood before a call with an effect that is not to happen twice.
type standing struct {
	there    bool // the name, or file
	file     fileID
	size     int64
	target   fileID // what a rename replaces; zero if nothing
	from, to string // absolute paths of the names that the call is about, for what is attached later
}

// standingSize is the payload of an intent before its paths: there 1, reserved 7, device, inode,
// size, device and inode of the target 8 each, length of the first path 8.
const standingSize = 56

func (s *standing) encode() []byte {
	var b [standingSize]byte
	if s.there {
		b[0] = 1
	}
	for i, v := range [...]uint64{s.file.dev, s.file.ino, uint64(s.size), s.target.dev, s.target.ino, uint64(len(s.from))} {
		binary.LittleEndian.PutUint64(b[8+8*i:], v)
	}
	return append(append(b[:], s.from...), s.to...)
}

func decodeStanding(b []byte) (s standing, ok bool) {
	if len(b) < standingSize {
		return s, false
	}
	var v [6]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[8+8*i:])
	}
	s = standing{there: b[0] != 0, file: fileID{v[0], v[1]}, size: int64(v[2]), target: fileID{v[3], v[4]}}
	paths := b[standingSize:]
	if v[5] > uint64(len(paths)) || s.size < 0 {
		return s, false
	}
	s.from, s.to = string(paths[:v[5]]), string(paths[v[5]:])
	return s, true
}

// is tells whether two standings are of the same file.
func (s *standing) is(o standing) bool { return s.there && o.there && s.file == o.file }

// intend comes before a call whose effect is not to happen twice: it notes how things stand,
// as look tells. When the past is played it returns what look told then. settle tells that the
// call may have been under way when the past ended: its effect may be there.
func (j *Journal) intend(o op, k key, look func() standing) (pre standing, settle bool) {
	k = k.num(int64(o))
	if r, ok := j.replay(opIntent, k); ok {
		pre, ok = decodeStanding(r.payload)
		j.require(r, ok)
		if _, more := j.peek(); more {
			return pre, false
		}
		if j.opt.StopAt != 0 && j.played >= j.opt.StopAt {
			j.fail(&StoppedError{Record: j.played})
		}
		j.mustGoLive(&pre)
		return pre, true
	}
	pre = look()
	b := pre.encode()
	j.bytes(opIntent, k, wasi.ESUCCESS, len(b), b)
	return pre, false
}

// look tells how a name stands.
func (j *Journal) look(dir wasi.Handle, name string) standing {
	real, errno := j.outside(dir)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	h, errno := j.k.Open(real, strings.TrimRight(name, "/"), wasi.OpenName|wasi.OpenNoFollow)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	s := j.standReal(h)
	j.k.Close(h) // it only named the file
	return s
}

// stand tells how the file stands that h is.
func (j *Journal) stand(h wasi.Handle) standing {
	real, errno := j.outside(h)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	return j.standReal(real)
}

func (j *Journal) standReal(real wasi.Handle) standing {
	st, errno := j.k.Stat(real)
	if errno != wasi.ESUCCESS {
		return standing{}
	}
	return standing{there: true, file: fileID{st.Dev, st.Ino}, size: int64(st.Size)}
}

// naming is a call that changes names.
type naming struct {
	op   op
	key  key
	look func() standing
	// done tells, from how things stand now, whether it has been carried out already.
	done func(pre standing) bool
	do   func(pre standing) wasi.Errno
	// changed are the names, to be made durable.
	changed [2]struct {
		dir  wasi.Handle
		name string
	}
}

// name carries out, or plays, a call that changes names.
func (j *Journal) name(n *naming) (standing, wasi.Errno) {
	pre, settle := j.intend(n.op, n.key, n.look)
	if r, ok := j.replay(n.op, n.key); ok {
		return pre, r.err()
	}
	j.commit()
	errno := wasi.ESUCCESS
	if !settle || !n.done(pre) {
		errno = n.do(pre)
	}
	if errno == wasi.ESUCCESS {
		for _, c := range n.changed {
			if c.name != "" {
				j.durableName(c.dir, c.name)
			}
		}
	}
	j.put(n.op, n.key, errno)
	return pre, errno
}
