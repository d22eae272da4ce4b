package dashboard

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// commandHeader is what a command has. A page of another origin cannot send it without asking first, which is denied.
const commandHeader = "X-Perdure-Dashboard"

// guard decides which requests are answered.
type guard struct {
	loopback bool // only the machine itself can reach the address
	token    [sha256.Size]byte
	hasToken bool
}

func newGuard(o Options) guard {
	return guard{o.Loopback, sha256.Sum256([]byte(o.Token)), o.Token != ""}
}

// refusal says why a request is not answered, with the status for that; empty if it is. The page itself is free of the token,
// for there is nothing in it.
func (g guard) refusal(r *http.Request, page bool) (status int, why string) {
	// By another name than ours it is a stranger's page that has made its own name point here. Where others are meant to come
	// their names for us are not known, and the token stands for that.
	if g.loopback && !ourName(r.Host) {
		return http.StatusForbidden, "this address is served as localhost only"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if r.Header.Get(commandHeader) != "1" {
			return http.StatusForbidden, "a command has to have the header " + commandHeader + ": 1"
		}
		if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host && origin != "https://"+r.Host {
			return http.StatusForbidden, "a command has to come from the dashboard's own page"
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); !page && site != "" && site != "same-origin" && site != "none" {
		return http.StatusForbidden, "a request has to come from the dashboard's own page"
	}
	if g.hasToken && !page {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(sum[:], g.token[:]) != 1 {
			return http.StatusUnauthorized, "the token is missing or wrong"
		}
	}
	return 0, ""
}

// ourName tells whether a Host header names this machine as nobody else can be named.
func ourName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// refuse answers as the control API does.
func refuse(rw http.ResponseWriter, status int, why string) {
	code := "forbidden"
	if status == http.StatusServiceUnavailable {
		code = "busy"
	}
	b, err := json.Marshal(map[string]string{"error": why, "code": code})
	if err != nil {
		b = nil // the status says it
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_, _ = rw.Write(b) // who asked may have gone
}
