package runtime

import (
	"fmt"
	"io"
	"os"
)

// maxKey bounds the size of a key file, in bytes.
const maxKey = 4096

// ReadKey reads the key that generations are authenticated with from a file, all of whose
// bytes are the key: at least 16, better 32 random ones. An empty path means no key.
func ReadKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close() // read only
	key, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(key) < 16 || len(key) > maxKey {
		return nil, fmt.Errorf("key %s: it has to have 16 to %d bytes", path, maxKey)
	}
	return key, nil
}
