package wasi

func procExit(h *Host, _ memory, a []uint64) (Errno, error) {
	return h.end(uint32(a[0]))
}

// end records that the guest has ended.
func (h *Host) end(code uint32) (Errno, error) {
	h.exit = &code
	return ESUCCESS, &ExitError{Code: code}
}

// signalAction is what a raised signal does.
type signalAction uint8

const (
	signalEnds signalAction = iota
	signalIgnored
	signalStops
)

// signals are preview 1's signals by number, with Linux's number, which the
// exit status of a guest that one ends is made of, and their default action.
var signals = [...]struct {
	linux  uint32
	action signalAction
}{
	0:  {0, signalIgnored},  // none
	1:  {1, signalEnds},     // hup
	2:  {2, signalEnds},     // int
	3:  {3, signalEnds},     // quit
	4:  {4, signalEnds},     // ill
	5:  {5, signalEnds},     // trap
	6:  {6, signalEnds},     // abrt
	7:  {7, signalEnds},     // bus
	8:  {8, signalEnds},     // fpe
	9:  {9, signalEnds},     // kill
	10: {10, signalEnds},    // usr1
	11: {11, signalEnds},    // segv
	12: {12, signalEnds},    // usr2
	13: {13, signalEnds},    // pipe
	14: {14, signalEnds},    // alrm
	15: {15, signalEnds},    // term
	16: {17, signalIgnored}, // chld
	17: {18, signalIgnored}, // cont
	18: {19, signalStops},   // stop
	19: {20, signalStops},   // tstp
	20: {21, signalStops},   // ttin
	21: {22, signalStops},   // ttou
	22: {23, signalIgnored}, // urg
	23: {24, signalEnds},    // xcpu
	24: {25, signalEnds},    // xfsz
	25: {26, signalEnds},    // vtalrm
	26: {27, signalEnds},    // prof
	27: {28, signalIgnored}, // winch
	28: {29, signalEnds},    // poll
	29: {30, signalEnds},    // pwr
	30: {31, signalEnds},    // sys
}

// procRaise does what the signal's default action is: preview 1 has no way to
// catch one. A signal that ends the guest ends it with 128 plus Linux's number.
// One that is ignored by default does nothing, as does number 0; one that stops
// is ENOTSUP, since nothing could make the guest go on.
func procRaise(h *Host, _ memory, a []uint64) (Errno, error) {
	n := uint32(a[0])
	if n >= uint32(len(signals)) {
		return EINVAL, nil
	}
	switch signals[n].action {
	case signalIgnored:
		return ESUCCESS, nil
	case signalStops:
		return ENOTSUP, nil
	}
	return h.end(128 + signals[n].linux)
}
