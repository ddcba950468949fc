package conformance

// Profile is a set-up of the gateway that some cases need.
type Profile struct {
	Name  string
	Setup string // what the gateway has to be told, in words
}

// Profiles.
const (
	Base        = "base"
	NoWebSocket = "no-websocket"
	TLSBackend  = "tls-backend"
	BackendDown = "backend-down"
	ShortTimes  = "short-times"
	Limits      = "limits"
	Trusted     = "trusted-proxy"
	Relaxed     = "relaxed"
	Strict      = "strict"
	TwoServers  = "two-servers"
	Hosts       = "hosts"
	Strip       = "strip"
	Reload      = "reload"
	LateGoAway  = "late-goaway"
)

// Profiles are all set-ups, base first.
func Profiles() []Profile {
	return []Profile{
		{Base, "WebSocket on for all paths; an https front with HTTP/2 and HTTP/1.1, a cleartext front if there is one; one cleartext backend; all else as it comes"},
		{NoWebSocket, "as base, with WebSocket off for all paths: extended CONNECT is not announced"},
		{TLSBackend, "the backend by TLS, with the authority ca.pem, the name backend.test and the client certificate client.pem with client-key.pem, all in the folder of --tls-dir"},
		{BackendDown, "as base; nothing listens where the backend should be"},
		{ShortTimes, "as base, with 1 s for a request head, for an idle connection and for the backend's answer to a handshake, and 3 s for a tunnel in which nothing moves"},
		{Limits, "as base, with at most 4 WebSocket handshakes in flight to the backend"},
		{Trusted, "as base, with 127.0.0.0/8 as trusted proxies, whose X-Forwarded-* fields are believed"},
		{Relaxed, "as base, with a missing Sec-WebSocket-Key of an HTTP/1.1 client made by the gateway"},
		{Strict, "as base, with a missing Sec-WebSocket-Version refused"},
		{TwoServers, "as base, with two servers as backend: one at which nobody listens, and the suite's; both take turns"},
		{Hosts, "as base, for the host of --authority alone; a host that is not served is answered 421"},
		{Strip, "as base, with sec-websocket-extensions kept from the backend"},
		{Reload, "as base, with one more route to the same backend for the prefix /removed; --reload-cmd, called with a name, puts a configuration in place and returns when it holds: base; no-route, without the route for /removed and with 404 there; no-websocket, without WebSocket"},
		{LateGoAway, "as base, with a drain that says GOAWAY only when the tunnels have ended"},
	}
}
