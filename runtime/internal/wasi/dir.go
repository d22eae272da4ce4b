package wasi

import "encoding/binary"

// fdReaddir fills the buffer with the entries from a cookie on. The last one is
// cut off where the buffer ends, so that a buffer that is not full means the end
// of the directory. The entries are those of the moment of the last call with
// cookie 0: whatever happens to the directory meanwhile, also while no host
// runs, a program that reads on sees each of them once.
func fdReaddir(h *Host, m memory, a []uint64) (Errno, error) {
	cookie, result := a[3], uint32(a[4])
	o, errno := h.live(uint32(a[0]))
	if errno != ESUCCESS {
		return errno, nil
	}
	buf, ok := m.bytes(uint32(a[1]), uint32(a[2]))
	if !ok || !m.has(result, 4) {
		return EFAULT, nil
	}
	if !o.isDirectory() {
		return ENOTDIR, nil
	}
	if errno := o.may(RightFdReaddir); errno != ESUCCESS {
		return errno, nil
	}
	if cookie == 0 || o.Listing == nil {
		if errno := h.list(o); errno != ESUCCESS {
			return errno, nil
		}
	}
	m.putUint32(result, uint32(putEntries(buf, o.Listing.Entries, cookie)))
	return ESUCCESS, nil
}

// list takes the content of the directory, "." and ".." first.
func (h *Host) list(o *open) Errno {
	st, errno := h.k.Stat(o.handle)
	if errno != ESUCCESS {
		return errno
	}
	room := h.cfg.Limits.ListingBytes
	for _, other := range h.table {
		if other != nil && other != o && other.Listing != nil {
			room -= other.Listing.size()
		}
	}
	entries, errno := h.k.ReadDir(o.handle, room)
	if errno != ESUCCESS {
		return errno
	}
	all := make([]DirEntry, 2, len(entries)+2)
	all[0] = DirEntry{Name: ".", Ino: st.Ino, Type: FileDirectory}
	all[1] = DirEntry{Name: "..", Ino: st.Ino, Type: FileDirectory}
	for _, e := range entries {
		switch e.Name {
		case ".":
		case "..":
			// What is above a given directory is no concern of the guest: like that
			// of "/", its parent is itself.
			if p := &h.preopens[o.Source]; st.Dev != p.Dev || st.Ino != p.Ino {
				all[1].Ino = e.Ino
			}
		default:
			all = append(all, e)
		}
	}
	o.Listing = &Listing{Entries: all}
	return ESUCCESS
}

// entryBytes is what an entry of a listing costs beside its name.
const entryBytes = 48

// size returns what the listing costs to hold.
func (l *Listing) size() int {
	n := entryBytes * len(l.Entries)
	for i := range l.Entries {
		n += len(l.Entries[i].Name)
	}
	return n
}

// putEntries writes entries from cookie on to buf, and returns how many bytes.
func putEntries(buf []byte, entries []DirEntry, cookie uint64) int {
	done := 0
	for next := cookie; next < uint64(len(entries)) && done < len(buf); {
		e := &entries[next]
		next++
		var head [sizeDirent]byte
		binary.LittleEndian.PutUint64(head[0:], next)
		binary.LittleEndian.PutUint64(head[8:], e.Ino)
		binary.LittleEndian.PutUint32(head[16:], uint32(len(e.Name)))
		head[20] = byte(e.Type)
		done += copy(buf[done:], head[:])
		done += copy(buf[done:], e.Name)
	}
	return done
}
