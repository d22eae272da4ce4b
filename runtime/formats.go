package runtime

import (
	"perdure/memsnap"
	"perdure/runtime/internal/engine"
	"perdure/runtime/internal/instrument"
	"perdure/runtime/internal/journal"
	"perdure/runtime/internal/wasi"
)

// Format is something that is written to disk. Version is the one that this program writes; it reads the older ones too,
// but for instrumented programs, which it makes anew.
type Format struct {
	Name    string
	Version int
}

// Formats lists the formats on disk, the outermost first.
func Formats() []Format {
	return []Format{
		{"export", exportVersion},
		{"generation", memsnap.FormatVersion},
		{"process", processVersion},
		{"stack", engine.ImageVersion},
		{"host", wasi.StateVersion},
		{"journal", journal.FormatVersion},
		{"instrumented", instrument.Version},
	}
}
