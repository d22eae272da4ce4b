package worker

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestProtocolNamesEveryCode holds PROTOCOL.md and the codes together.
func TestProtocolNamesEveryCode(t *testing.T) {
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := []Code{
		CodeRequest, CodeStarting, CodeEnded, CodeSuspended, CodeNotSaved, CodeNotReactor, CodeNoExport, CodeArguments, CodeTrap,
		CodeBusy, CodeInternal,
	}
	for _, c := range codes {
		if row := fmt.Sprintf("| `%s` | %d |", c, c.status()); !strings.Contains(string(b), row) {
			t.Errorf("PROTOCOL.md has no row that begins with %s", row)
		}
	}
	_, table, _ := strings.Cut(string(b), "| code | status |")
	if n := strings.Count(table, "\n| `"); n != len(codes) {
		t.Errorf("PROTOCOL.md has %d codes, this test %d", n, len(codes))
	}
	for _, name := range []string{SocketFile, OutcomeFile, LogFile, lockFile} {
		if !strings.Contains(string(b), "| `"+name+"` |") {
			t.Errorf("PROTOCOL.md does not say what %s is", name)
		}
	}
}
