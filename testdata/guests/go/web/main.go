// Serves on the listening socket that is its descriptor 3: HTTP, echoing what is posted, or with the argument tls an echo
// over TLS.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

func listener() net.Listener {
	if err := syscall.SetNonblock(3, true); err != nil {
		panic(err)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	return l
}

// certificate makes one that nobody has reason to trust.
func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"guest"}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "tls" {
		l := tls.NewListener(listener(), &tls.Config{Certificates: []tls.Certificate{certificate()}})
		for {
			c, err := l.Accept()
			if err != nil {
				panic(err)
			}
			go func() {
				_, err := io.Copy(c, c)
				fmt.Println("over:", err)
				c.Close()
			}()
		}
	}
	http.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(b) // the client has gone
	})
	panic(http.Serve(listener(), nil))
}
