package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"perdure/internal/durable"
)

// RecordFile is the daemon's file in the directory of a process. FORMAT.md describes it.
const RecordFile = "daemon.json"

const (
	recordVersion = 1
	maxRecord     = 1 << 20 // bytes
)

// The states that a user can want.
const (
	desiredRunning = "running"
	desiredStopped = "stopped"
)

// record is what the daemon remembers of a process. It can be compared.
type record struct {
	Version int `json:"version"`
	// Desired is running or stopped.
	Desired string `json:"desired"`
	// FromState lets it run though the folder does not have its program.
	FromState bool `json:"from_state,omitempty"`
	// Program is the file that was started last, SHA256 the program of the state in the directory.
	Program string `json:"program,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	// Fresh is a start anew that was asked for and has not happened.
	Fresh bool `json:"fresh,omitempty"`
	// Replaced is the SHA-256 of the program that this state is or was given up for.
	Replaced string `json:"replaced,omitempty"`
	// Removed is the SHA-256 of the file whose process was removed, and must not come back by itself.
	Removed string `json:"removed,omitempty"`
	// Quarantine is the program that was refused.
	Quarantine quarantine `json:"quarantine,omitzero"`
	// Over is the SHA-256 of the program that is not to be started again by itself: it has ended with ExitCode, or
	// has failed with LastError.
	Over     string `json:"over,omitempty"`
	Ended    bool   `json:"ended,omitempty"`
	ExitCode uint32 `json:"exit_code,omitempty"`
	// Trap is the last trap, and how often it came in a row.
	Trap trapRecord `json:"trap,omitzero"`
	// LastError is for people.
	LastError string `json:"last_error,omitempty"`
	// Restarts counts the starts that followed an end that nobody asked for.
	Restarts uint64 `json:"restarts"`
	Stats    Stats  `json:"stats"`
}

type quarantine struct {
	SHA256  string `json:"sha256"`
	Reason  string `json:"reason"`
	Version string `json:"version"` // of the Perdure that refused it
}

type trapRecord struct {
	Place      string `json:"place"`
	Count      int    `json:"count"`
	Generation uint64 `json:"generation"` // the newest one at the last of them
}

func newRecord() record { return record{Version: recordVersion, Desired: desiredRunning} }

// errRecord says that a record cannot be understood.
var errRecord = errors.New("the daemon's record cannot be used")

// readRecord reads the record of a process. The error of one that is not there is fs.ErrNotExist.
func readRecord(dir string) (record, error) {
	path := filepath.Join(dir, RecordFile)
	f, err := os.Open(path)
	if err != nil {
		return record{}, err
	}
	defer f.Close() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return record{}, err
	}
	r := newRecord()
	switch err := json.Unmarshal(b, &r); {
	case len(b) > maxRecord:
		return record{}, fmt.Errorf("%w: %s has more than %d bytes", errRecord, path, maxRecord)
	case err != nil:
		return record{}, fmt.Errorf("%w: %s: %w", errRecord, path, err)
	case r.Version != recordVersion:
		return record{}, fmt.Errorf("%w: %s is of version %d, this Perdure knows %d", errRecord, path, r.Version, recordVersion)
	case r.Desired != desiredRunning && r.Desired != desiredStopped:
		return record{}, fmt.Errorf("%w: %s: %q is no state", errRecord, path, r.Desired)
	}
	return r, nil
}

// writeRecord writes the record durably. It makes the directory if need be.
func writeRecord(dir string, r record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, RecordFile)
	err = durable.WriteFile(durable.OS, path, append(b, '\n'), 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		err = durable.WriteFile(durable.OS, path, append(b, '\n'), 0o600)
	}
	return err
}
