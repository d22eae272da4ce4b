package spectest

import "strings"

// trapClass is why a call or an instantiation ended early, as far as wazero tells the reasons apart.
type trapClass string

const (
	noTrap              trapClass = ""
	trapUnreachable     trapClass = "unreachable"
	trapMemory          trapClass = "out of bounds memory access"
	trapTable           trapClass = "invalid table access"
	trapSignature       trapClass = "indirect call type mismatch"
	trapDivideByZero    trapClass = "integer divide by zero"
	trapOverflow        trapClass = "integer overflow"
	trapConversion      trapClass = "invalid conversion to integer"
	trapStackExhaustion trapClass = "stack overflow"
)

// trapOf returns the class of a trap that an engine reported, noTrap if the error is something else. wazero does not
// export its trap errors, so their text is all there is: the first line is "wasm error: " and the reason, the
// following ones are the stack.
func trapOf(err error) trapClass {
	if err == nil {
		return noTrap
	}
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if _, reason, ok := strings.Cut(line, "wasm error: "); ok {
			line = reason
		}
		for _, class := range []trapClass{
			trapUnreachable, trapMemory, trapTable, trapSignature, trapDivideByZero, trapOverflow, trapConversion, trapStackExhaustion,
		} {
			if line == string(class) || strings.HasSuffix(line, ": "+string(class)) {
				return class
			}
		}
	}
	return noTrap
}

// specTrap returns the class for the reason that a script gives.
func specTrap(text string) trapClass {
	switch text {
	case "unreachable":
		return trapUnreachable
	case "out of bounds memory access":
		return trapMemory
	case "undefined", "undefined element", "out of bounds table access":
		return trapTable
	case "indirect call", "indirect call type mismatch":
		return trapSignature
	case "integer divide by zero":
		return trapDivideByZero
	case "integer overflow":
		return trapOverflow
	case "invalid conversion to integer":
		return trapConversion
	case "call stack exhausted":
		return trapStackExhaustion
	}
	if strings.HasPrefix(text, "uninitialized") {
		return trapTable // "uninitialized element 7" names the slot
	}
	return noTrap
}
