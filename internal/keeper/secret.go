package keeper

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"perdure/internal/durable"
)

// SecretFile is the file in the directory of a process that has the secret it shows to a shared keeper.
const SecretFile = "keeper.key"

// secretSize is the size of a secret, in bytes; the file has it in hexadecimal.
const secretSize = 16

// Secret returns the secret of the process in dir. It is not there: a new one, with made true, which WriteSecret stores.
func Secret(dir string) (secret string, made bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, SecretFile))
	if errors.Is(err, fs.ErrNotExist) {
		fresh := make([]byte, secretSize)
		if _, err := rand.Read(fresh); err != nil {
			return "", false, fmt.Errorf("make a secret for the keeper of sockets: %w", err)
		}
		return hex.EncodeToString(fresh), true, nil
	}
	if err != nil {
		return "", false, err
	}
	if raw, err := hex.DecodeString(string(b)); err != nil || len(raw) != secretSize {
		return "", false, fmt.Errorf("%s is damaged: remove it, and the connections of the process are lost", filepath.Join(dir, SecretFile))
	}
	return string(b), false, nil
}

// WriteSecret stores the secret of the process in dir, for its user only.
func WriteSecret(dir, secret string) error {
	return durable.WriteFile(durable.OS, filepath.Join(dir, SecretFile), []byte(secret), 0o600)
}

// Owner returns under which name a shared keeper has the sockets of a process.
func Owner(name, secret string) string { return name + "/" + secret }
