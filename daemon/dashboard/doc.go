// Package dashboard serves a page on which a browser shows the processes of the daemon and commands them.
//
// The page is one file, index.html, which is embedded. All that it shows and does goes through the handler of the control
// API that the caller hands over, of which it lets a few requests through; nothing is answered here.
//
// # Who may
//
// A browser carries requests of strangers: any page that its user visits can send some to an address of this machine. So
// each request has to name a host that is ours, against pages whose name was made to point here; each command has to come
// from our own page, by its Origin and by a header that others cannot send unasked; and where a token is set, everything but
// the page itself has to have it, in a header and never in a cookie. See [Options] and guard.
package dashboard
