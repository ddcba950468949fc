package upstream

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"wsgate/internal/loop"
)

// Config describes one upstream. In numbers and durations 0 means the default
// that stands beside the field and a negative value means off, or without bound;
// where no default stands, 0 is off.
type Config struct {
	// Name is that of the upstream, in logs and under the signature of sticky
	// cookies. Replicas that are to understand each other's cookies share it.
	Name    string
	Servers []ServerConfig
	Balance Balance

	// Sources are the addresses that connections to servers are made from, in
	// turn; when one has no port left towards a server, the next. Those of the
	// server's address family count; with none of it the kernel chooses.
	Sources []netip.Addr

	// TLS is for the servers that have TLS set. ALPN is always "http/1.1". An
	// empty ServerName is filled in with the host of each server.
	TLS *tls.Config

	// HostHeader is the Host that servers are sent; "" keeps the client's.
	HostHeader string
	// HostOfServer sends each server its own Host instead.
	HostOfServer bool

	ConnectTimeout  time.Duration // one connection at one address. Default 3 s
	TLSTimeout      time.Duration // the TLS handshake. Default 5 s
	OpenTimeout     time.Duration // a whole opening handshake, other attempts included, time in the queue not. Default 10 s
	ResponseTimeout time.Duration // ordinary requests: from the request's end to the head of the answer. Default 60 s
	KeepAlive       time.Duration // interval of TCP keep-alive probes. Default 30 s

	Active  *Active // checks; nil: none
	Passive Passive
	Retry   Retry

	// Limits are those of the whole upstream; each server has its own beside them.
	Limits Limits
	// QueueLength is how many clients may wait for a place when the upstream is
	// full. Those over it are answered 503 at once.
	QueueLength int
	// QueueTime is how long one may wait. Default 5 s.
	QueueTime time.Duration

	// ResolveInterval is how often names are looked up again. Default 10 s.
	ResolveInterval time.Duration
	// SlowStart is how long a server that is new, or has come back, takes to
	// get its full weight; it begins at a tenth. It matters to LeastTunnels,
	// RoundRobin and RandomTwo.
	SlowStart time.Duration
}

// ServerConfig is one entry of the list of servers. A name that stands for
// several addresses stands for as many servers, each with the weight and the
// limits of its entry.
type ServerConfig struct {
	// Name is that of the server in logs, in orders of the operator and under
	// the signature of sticky cookies. Default: Address.
	Name string
	// Network is "tcp", the default, or "unix".
	Network string
	// Address is host:port, the host a name or an IP address, or the path of a
	// unix socket.
	Address string
	// TLS makes its connections TLS ones, by the upstream's TLS.
	TLS bool
	// Host is its own name: for HostOfServer, checks and TLS. Default: Address
	// as it stands, "localhost" for a unix socket. The port is not for TLS.
	Host string
	// Weight is its share of the clients, 1 to 1000. Default 1.
	Weight int
	Limits Limits
}

// Limits bound what is under way at once.
type Limits struct {
	MaxTunnels  int // tunnels and opening handshakes
	MaxPending  int // opening handshakes
	MaxRequests int // ordinary requests
}

// Policy says how a server is chosen.
type Policy string

const (
	// LeastTunnels takes the server with the fewest tunnels, handshakes and
	// requests for its weight. It is the default.
	LeastTunnels Policy = "least_tunnels"
	// RoundRobin takes one after the other, by weight.
	RoundRobin Policy = "round_robin"
	// RandomTwo takes two at random and of them the one with fewer tunnels.
	RandomTwo Policy = "random_two"
	// Hash sends what has the same key to the same server, by rendezvous
	// hashing; a server with more than 5/4 of its share is passed over.
	Hash Policy = "hash"
	// Sticky sends a client to the server that its cookie names, and gives it
	// the cookie. Without one it is LeastTunnels.
	Sticky Policy = "sticky"
)

// HashKey says what Hash looks at. A client without it is sent by LeastTunnels.
type HashKey string

const (
	HashClient HashKey = "client" // the client's address, of IPv6 the /64; the default
	HashHeader HashKey = "header" // all lines of the field Name
	HashCookie HashKey = "cookie" // the cookie Name
	HashPath   HashKey = "path"   // the path without its query
)

// Balance says how servers are chosen.
type Balance struct {
	Policy Policy
	Key    HashKey // of Hash
	Name   string  // of the header or cookie for Hash
	Cookie Cookie  // of Sticky
}

// Cookie is the cookie of Sticky. Its value is an HMAC-SHA256 of the names of
// upstream and server: it shows no address, and every replica that has the same
// Secret and names understands it. It is HttpOnly.
type Cookie struct {
	Name     string // default "wsgate"
	Secret   []byte // at least 16 octets
	Path     string // default "/"
	Domain   string
	SameSite http.SameSite // default Lax; None makes it Secure
	Secure   Secure
	MaxAge   time.Duration // 0: until the browser ends
}

// Secure says whether a cookie has the attribute Secure.
type Secure string

const (
	SecureAuto   Secure = ""       // when the client came over https
	SecureAlways Secure = "always" // for instance behind something that ends TLS
	SecureNever  Secure = "never"
)

// CheckKind is what an active check does.
type CheckKind string

const (
	CheckTCP       CheckKind = "tcp"       // connects, and shakes hands if the server has TLS; the default
	CheckHTTP      CheckKind = "http"      // GET, and looks at the status
	CheckWebSocket CheckKind = "websocket" // an opening handshake that expects a valid 101
)

// Active are checks that are made without a client's asking.
type Active struct {
	Kind     CheckKind
	Path     string        // of HTTP and WebSocket. Default "/"
	Host     string        // Host field. Default: the server's own
	Interval time.Duration // between the end of a check and the next. Default 5 s
	Timeout  time.Duration // of a check. Default 2 s
	Rise     int           // checks in a row that bring a server back. Default 2
	Fall     int           // checks in a row that take a server out. Default 3; the very first check takes it out alone
	Statuses []int         // what HTTP expects. Default: 200 to 399
}

// Passive is what is learnt from clients' handshakes and requests.
type Passive struct {
	// Failures in a row eject a server: no connection, no TLS, no answer, no
	// usable one, or one of 502, 503 and 504 to a handshake. Default 5.
	Failures int
	// BaseTime is how long the first ejection lasts; each further one in a row
	// lasts twice as long, at most MaxTime. Up to a tenth is added at random.
	// Default 5 s and 5 min.
	BaseTime, MaxTime time.Duration
}

// Retry is for handshakes and requests of which no octet has been written: they
// are tried at another server, and when all have been tried at the same again.
type Retry struct {
	Attempts  int     // after the first. Default 2
	Budget    float64 // retries per first attempt, at most. Default 0.2
	MinPerSec int     // retries a second that are allowed in any case, of 10 s at once. Default 3
}

// Env is what an upstream is given by the house. The zero value works.
type Env struct {
	Slots    *loop.Slots   // of TLS handshakes; nil: no bound
	Resolver *net.Resolver // nil: net.DefaultResolver
	Events   Events
	// Trusts reports whether a peer is a proxy whose X-Forwarded-For is
	// believed, for Hash on the client's address. nil: none is.
	Trusts func(netip.Addr) bool

	Now  func() time.Time // nil: time.Now
	Rand func() uint64    // nil: a random source; any goroutine
}

// Events are told of what an operator wants to know. Each may be nil. They are
// called from any goroutine, loops included, and must not block.
type Events struct {
	// State: a server is up, down or ejected from now on. The cause is the
	// failure, nil for one that has come back.
	State func(upstream, server string, s State, cause error)
	// Panic: no server is fit (on), so that all are used, or one is again.
	Panic func(upstream string, on bool)
	// PortsExhausted: no source has a port left towards the server. At most
	// once a minute for each upstream.
	PortsExhausted func(upstream, server string, cause error)
	// Resolved: the name of an entry stands for other addresses than before.
	Resolved func(upstream, entry string, added, gone []netip.Addr)
	// NotResolved: a lookup failed, and the one before had not. The addresses
	// of before stay in use.
	NotResolved func(upstream, entry string, cause error)
}

// State is what a server is fit for.
type State string

const (
	Up      State = "up"
	Down    State = "down"    // by active checks
	Ejected State = "ejected" // by passive ones, for some time
	Trial   State = "trial"   // its ejection is over, one handshake at a time may show that it works
	Drained State = "drained" // by the operator: no new tunnels, the old ones stay
	Gone    State = "gone"    // no longer configured or in the DNS, but tunnels are left
)

// ServerStatus is what is known of a server now.
type ServerStatus struct {
	Name         string    `json:"name"`  // as bridge.Tunnel.Server says it
	Entry        string    `json:"entry"` // the name of its entry
	Address      string    `json:"address"`
	State        State     `json:"state"`
	Weight       int       `json:"weight"`
	Tunnels      int       `json:"tunnels"`
	Pending      int       `json:"pending"`  // opening handshakes
	Requests     int       `json:"requests"` // ordinary ones under way
	EjectedUntil time.Time `json:"ejected_until,omitzero"`
	LastFailure  string    `json:"last_failure,omitempty"`
}

// Stats are counts of an upstream; those but Waiting and the first three since
// the first of its generations.
type Stats struct {
	Tunnels        int    `json:"tunnels"`
	Pending        int    `json:"pending"`
	Requests       int    `json:"requests"`
	Waiting        int    `json:"waiting"` // in the queue
	Full           uint64 `json:"upstream-full"`
	QueueTimeouts  uint64 `json:"queue-timeout"`
	PortsExhausted uint64 `json:"ports-exhausted"`
	Retries        uint64 `json:"retries"`
	RetriesDenied  uint64 `json:"retries-denied"` // by the budget
	Ejections      uint64 `json:"ejections"`
}
