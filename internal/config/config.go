// Package config is what an operator says: the file of wsgate, its values, their
// defaults, and what is wrong with them. It knows no other room: the gateway
// turns a Config into running things.
//
// The keys of the file are the yaml tags below; the doc tags are their
// explanations in the JSON Schema, and each type's setDefaults has the values
// that hold if a key is missing. In all durations and limits 0 means off.
package config

import "time"

// Config is the whole of it. A checked one is never changed.
type Config struct {
	Listeners    []Listener           `yaml:"listeners" doc:"where clients connect"`
	Certificates []Certificate        `yaml:"certificates" doc:"what TLS listeners show, chosen by the name that the client asks for (SNI)"`
	Upstreams    map[string]*Upstream `yaml:"upstreams" doc:"groups of servers behind the gateway, by name"`
	Routes       []Route              `yaml:"routes" doc:"which request goes where; the most specific one that matches wins"`
	Limits       Limits               `yaml:"limits" doc:"bounds over all listeners and routes"`
	Timeouts     Timeouts             `yaml:"timeouts" doc:"times of connections, and those of tunnels unless a route says otherwise"`
	Requests     Requests             `yaml:"requests" doc:"how requests and handshakes are judged and forwarded"`
	Drain        Drain                `yaml:"drain" doc:"how tunnels are ended when the gateway stops, or loses a route or a server"`
	Reload       Reload               `yaml:"reload" doc:"when this file is read again, beside SIGHUP and wsgate reload"`
	Log          Log                  `yaml:"log" doc:"the log on standard error"`
	Admin        Admin                `yaml:"admin" doc:"the operator's listener: /live, /ready, /counters, reload and drain"`
	Loops        int                  `yaml:"loops" doc:"event loops; 0: one per core, at most 4" min:"0" max:"256"`

	origin *origin // where the values were said
}

// Listener is one address that clients connect to.
type Listener struct {
	Name      string       `yaml:"name" doc:"for routes, logs and the admin listener; the address if left out"`
	Address   string       `yaml:"address" doc:"host:port; without a host IPv4 and IPv6" required:"true"`
	TLS       *ListenerTLS `yaml:"tls" doc:"true, or how TLS is spoken; without it the listener is cleartext"`
	Protocols []string     `yaml:"protocols" doc:"HTTP versions; all if left out: h1, h2 and with TLS h3, which is served over UDP on the same port" enum:"h1,h2,h3"`
	AltSvc    Duration     `yaml:"alt_svc" doc:"for how long clients may remember from HTTP/1.1 and HTTP/2 answers that h3 is served here (RFC 7838); 0: say nothing"`
	QUIC      QUIC         `yaml:"quic" doc:"what h3 stands on"`
}

// QUIC is what HTTP/3 stands on.
type QUIC struct {
	RetryAbove int    `yaml:"retry_above" doc:"handshakes under way with clients whose address is not validated; above it they are asked to show it (Retry)" min:"1"`
	Secret     Secret `yaml:"secret" doc:"what stateless reset and address validation tokens are made from, the same on all replicas; made from the key of the first certificate if left out"`
}

// ListenerTLS is the TLS of a listener.
type ListenerTLS struct {
	Certificates []string `yaml:"certificates" doc:"names of the certificates shown here; all if left out"`
	MinVersion   string   `yaml:"min_version" doc:"oldest version of TLS" enum:"1.2,1.3"`
}

// Certificate is a chain and its key, read again when the files change.
type Certificate struct {
	Name       string   `yaml:"name" doc:"for listeners and logs; the file if left out"`
	Cert       string   `yaml:"cert" doc:"PEM file of the chain"`
	Key        string   `yaml:"key" doc:"PEM file of the key"`
	SelfSigned []string `yaml:"self_signed" doc:"instead of files: names and addresses of a certificate made in memory, for trying things out"`
}

// Upstream is a group of servers that take the same requests.
type Upstream struct {
	Servers   []Server         `yaml:"servers" doc:"the servers; a name with several addresses stands for all of them" required:"true"`
	Balance   string           `yaml:"balance" doc:"how a server is chosen" enum:"least_tunnels,round_robin,random_two,hash,sticky"`
	Hash      *Hash            `yaml:"hash" doc:"for balance hash: what decides"`
	Sticky    *Sticky          `yaml:"sticky" doc:"for balance sticky: the cookie that the gateway sets on its answer"`
	SlowStart Duration         `yaml:"slow_start" doc:"how long a new or returning server's share grows to its full size"`
	Host      string           `yaml:"host" doc:"the Host that servers see: client, as the client sent it, or backend, the server's own" enum:"client,backend"`
	Sources   []string         `yaml:"source_addresses" doc:"own addresses to connect from; each carries some 28000 tunnels to one server address"`
	DNS       DNS              `yaml:"dns" doc:"how server names are looked up"`
	TLS       *UpstreamTLS     `yaml:"tls" doc:"for wss and https servers"`
	Timeouts  UpstreamTimeouts `yaml:"timeouts" doc:"times of connections to the servers"`
	Health    Health           `yaml:"health" doc:"how servers that do not work are found"`
	Retry     Retry            `yaml:"retry" doc:"trying another server while nothing was sent yet"`
	Limits    UpstreamLimits   `yaml:"limits" doc:"bounds over all servers of the group"`
}

// Server is one address behind the gateway. In the file it may be just the
// address.
type Server struct {
	Address    string `yaml:"address" doc:"ws, wss, http or https with host:port, or unix:///path.sock" required:"true"`
	Weight     int    `yaml:"weight" doc:"its share beside the others" min:"1" max:"1000"`
	MaxTunnels int    `yaml:"max_tunnels" doc:"tunnels and handshakes at this server" min:"0"`
	MaxPending int    `yaml:"max_pending" doc:"handshakes in flight at this server" min:"0"`
}

// Hash is what a request is told apart by.
type Hash struct {
	On   string `yaml:"on" doc:"what is hashed" enum:"client,header,cookie,path" required:"true"`
	Name string `yaml:"name" doc:"of the header or cookie"`
}

// Sticky is the cookie that keeps a client at its server.
type Sticky struct {
	Cookie   string   `yaml:"cookie" doc:"its name"`
	Secret   Secret   `yaml:"secret" doc:"the key it is signed with, at least 16 characters, the same on all replicas; ${NAME} or file:PATH keep it out of this file" required:"true"`
	Path     string   `yaml:"path" doc:"its Path"`
	Domain   string   `yaml:"domain" doc:"its Domain; none if left out"`
	SameSite string   `yaml:"same_site" doc:"its SameSite" enum:"lax,strict,none"`
	MaxAge   Duration `yaml:"max_age" doc:"its Max-Age; 0: until the browser ends"`
}

// DNS is how names are looked up.
type DNS struct {
	Interval Duration `yaml:"interval" doc:"names of servers are looked up again so often" min:"1"`
}

// UpstreamTLS is the client side of TLS servers. ALPN is always http/1.1.
type UpstreamTLS struct {
	CA         string `yaml:"ca" doc:"PEM file that server certificates are checked against; the system's if left out"`
	ServerName string `yaml:"server_name" doc:"name to ask for and to check; the server's host if left out"`
	Cert       string `yaml:"cert" doc:"PEM file of a client certificate"`
	Key        string `yaml:"key" doc:"PEM file of its key"`
	Insecure   bool   `yaml:"insecure" doc:"do not check certificates"`
}

// UpstreamTimeouts are those of connections to servers.
type UpstreamTimeouts struct {
	Connect   Duration `yaml:"connect" doc:"for one TCP connection"`
	TLS       Duration `yaml:"tls" doc:"for a TLS handshake"`
	Open      Duration `yaml:"open" doc:"for a whole WebSocket handshake"`
	Response  Duration `yaml:"response" doc:"for the head of the answer to an ordinary request"`
	Keepalive Duration `yaml:"keepalive" doc:"interval of TCP keep-alive probes"`
}

// Health is how servers that do not work are found.
type Health struct {
	Active  *ActiveHealth `yaml:"active" doc:"ask servers at intervals"`
	Passive PassiveHealth `yaml:"passive" doc:"watch how handshakes and requests end"`
}

// ActiveHealth asks servers at intervals.
type ActiveHealth struct {
	Kind     string   `yaml:"kind" doc:"tcp: a connection; http: an answer; websocket: a whole handshake that ends in a valid 101" enum:"tcp,http,websocket" required:"true"`
	Path     string   `yaml:"path" doc:"target of http and websocket checks"`
	Host     string   `yaml:"host" doc:"Host of http and websocket checks; the server's own if left out"`
	Status   []int    `yaml:"status" doc:"what an http check takes for healthy; 200 to 399 if left out"`
	Interval Duration `yaml:"interval" doc:"between two checks of a server" min:"1"`
	Timeout  Duration `yaml:"timeout" doc:"of one check" min:"1"`
	Rise     int      `yaml:"rise" doc:"good checks until a server is up" min:"1"`
	Fall     int      `yaml:"fall" doc:"bad checks until it is down" min:"1"`
}

// PassiveHealth puts servers aside that fail in a row, never all of them.
type PassiveHealth struct {
	Failures int      `yaml:"failures" doc:"failures in a row until a server is put aside; 0: off" min:"0"`
	Eject    Duration `yaml:"eject" doc:"for how long; doubled each time"`
	MaxEject Duration `yaml:"max_eject" doc:"for how long at most"`
}

// Retry is trying another server while nothing was sent.
type Retry struct {
	Attempts int     `yaml:"attempts" doc:"tries of one request, each at another server while there is one; 1: no retry" min:"1" max:"10"`
	Budget   float64 `yaml:"budget" doc:"retries as a share of requests" min:"0" max:"1"`
}

// UpstreamLimits are bounds over all servers of a group.
type UpstreamLimits struct {
	Tunnels   int      `yaml:"tunnels" doc:"tunnels and handshakes" min:"0"`
	Pending   int      `yaml:"pending" doc:"handshakes in flight" min:"0"`
	Queue     int      `yaml:"queue" doc:"handshakes that may wait for a place" min:"0"`
	QueueTime Duration `yaml:"queue_time" doc:"how long they wait; then 503"`
}

// Route says where requests that match go: to an upstream, to another URL, or
// to a fixed answer.
type Route struct {
	Name     string         `yaml:"name" doc:"for logs, and to know the route again after a reload; made from its match if left out"`
	Match    Match          `yaml:"match" doc:"what requests are meant; all if left out"`
	Upstream string         `yaml:"upstream" doc:"name of the upstream that takes them"`
	Redirect *Redirect      `yaml:"redirect" doc:"answer with another URL; WebSocket handshakes are sent to https, too"`
	Answer   *Answer        `yaml:"answer" doc:"answer with this"`
	Timeouts *RouteTimeouts `yaml:"timeouts" doc:"instead of the file's own"`
	Limits   RouteLimits    `yaml:"limits" doc:"bounds of this route, beside those of the file"`
	Ping     *Duration      `yaml:"ping" doc:"a WebSocket Ping goes into a direction silent for so long; instead of timeouts.ping"`
	Strip    []string       `yaml:"strip" doc:"what of a handshake is kept from the server" enum:"subprotocols,extensions"`
	Drain    *RouteDrain    `yaml:"drain" doc:"what Close frames say when tunnels of this route are ended; instead of the file's own"`
}

// Match is what a route is for. Every condition that is there has to hold.
type Match struct {
	Listeners []string          `yaml:"listeners" doc:"names of listeners; routes that name one go before those that do not"`
	Hosts     []string          `yaml:"hosts" doc:"host names without port; *.example.com means all below example.com"`
	Path      string            `yaml:"path" doc:"the whole path; a segment * stands for any one segment"`
	Prefix    string            `yaml:"prefix" doc:"the first segments of the path; a segment * stands for any one segment"`
	Methods   []string          `yaml:"methods" doc:"methods of ordinary requests; a handshake counts as GET"`
	Headers   map[string]string `yaml:"headers" doc:"fields and their whole value; * means any"`
	Kind      string            `yaml:"kind" doc:"websocket: opening handshakes; http: everything else" enum:"websocket,http"`
	HTTP      []int             `yaml:"http" doc:"HTTP versions of the client: 1, 2, 3" min:"1" max:"3"`
}

// Redirect is another URL, made of the request's own with parts replaced.
type Redirect struct {
	Scheme string `yaml:"scheme" doc:"https or http; the request's own if left out" enum:"https,http"`
	Host   string `yaml:"host" doc:"host, or host:port; the request's own host if left out"`
	Port   int    `yaml:"port" doc:"left out: none, which is the scheme's own" min:"0" max:"65535"`
	Path   string `yaml:"path" doc:"path and query; the request's own if left out"`
	Status int    `yaml:"status" doc:"301, 302, 303, 307 or 308"`
}

// Answer is a fixed answer.
type Answer struct {
	Status  int               `yaml:"status" doc:"200 to 599; a handshake answered with 2xx gets 502 on HTTP/2 and HTTP/3" min:"200" max:"599" required:"true"`
	Body    string            `yaml:"body" doc:"its content"`
	Headers map[string]string `yaml:"headers" doc:"its fields; Content-Type is text/plain if left out"`
}

// RouteTimeouts stand in the place of the file's own; what is left out stays.
type RouteTimeouts struct {
	Idle        *Duration `yaml:"idle" doc:"a tunnel in which nothing moves"`
	ClientIdle  *Duration `yaml:"client_idle" doc:"a tunnel whose client sends nothing"`
	BackendIdle *Duration `yaml:"backend_idle" doc:"a tunnel whose server sends nothing"`
	MaxLife     *Duration `yaml:"max_life" doc:"a tunnel, whatever moves"`
	Linger      *Duration `yaml:"linger" doc:"the second direction of a tunnel after the first has ended"`
	Stall       *Duration `yaml:"stall" doc:"a tunnel whose octets wait"`
	Open        *Duration `yaml:"open" doc:"a WebSocket handshake, waiting in a queue included"`
	Response    *Duration `yaml:"response" doc:"the head of the answer to an ordinary request"`
}

// RouteLimits are bounds of a route.
type RouteLimits struct {
	Tunnels          int `yaml:"tunnels" doc:"tunnels and handshakes" min:"0"`
	TunnelsPerClient int `yaml:"tunnels_per_client" doc:"of one address, of one /64 with IPv6" min:"0"`
	Pending          int `yaml:"pending" doc:"handshakes in flight" min:"0"`
}

// RouteDrain is what Close frames of a route say.
type RouteDrain struct {
	Code   int    `yaml:"code" doc:"Close code, 1000 to 4999" min:"1000" max:"4999"`
	Reason string `yaml:"reason" doc:"Close reason, at most 123 octets"`
}

// Limits are bounds over everything.
type Limits struct {
	Header               Size `yaml:"header" doc:"largest head of a request, 1KiB to 16MiB; over it 431" min:"1024" max:"16777216"`
	Streams              int  `yaml:"streams" doc:"concurrent streams of an HTTP/2 or HTTP/3 connection" min:"0"`
	TunnelsPerConnection int  `yaml:"tunnels_per_connection" doc:"of them tunnels" min:"0"`
	Tunnels              int  `yaml:"tunnels" doc:"tunnels and handshakes in all" min:"0"`
	TunnelsPerClient     int  `yaml:"tunnels_per_client" doc:"of one address, of one /64 with IPv6" min:"0"`
	Pending              int  `yaml:"pending" doc:"WebSocket handshakes in flight" min:"0"`
	TLSHandshakes        int  `yaml:"tls_handshakes" doc:"TLS handshakes in progress; above it accepting waits" min:"0"`
	BufferMemory         Size `yaml:"buffer_memory" doc:"octets that all connections together may queue" min:"0"`
}

// Timeouts are times of connections and tunnels.
type Timeouts struct {
	Header         Duration `yaml:"header" doc:"a TLS handshake, a preface or the head of a request"`
	IdleConnection Duration `yaml:"idle_connection" doc:"a connection without a request; one with a tunnel is not idle"`
	Keepalive      Duration `yaml:"keepalive" doc:"TCP keep-alive, and an HTTP/2 PING on quiet connections"`
	Idle           Duration `yaml:"idle" doc:"a tunnel in which nothing moves"`
	ClientIdle     Duration `yaml:"client_idle" doc:"a tunnel whose client sends nothing"`
	BackendIdle    Duration `yaml:"backend_idle" doc:"a tunnel whose server sends nothing"`
	MaxLife        Duration `yaml:"max_life" doc:"a tunnel, whatever moves"`
	Linger         Duration `yaml:"linger" doc:"the second direction of a tunnel after the first has ended; 0: without bound"`
	Stall          Duration `yaml:"stall" doc:"a tunnel whose octets wait"`
	Ping           Duration `yaml:"ping" doc:"a WebSocket Ping goes into a direction silent for so long"`
}

// Requests is how requests and handshakes are judged.
type Requests struct {
	WebSocket      bool     `yaml:"websocket" doc:"carry WebSocket; false: ordinary requests only"`
	MissingKey     string   `yaml:"missing_key" doc:"an HTTP/1.1 handshake without Sec-WebSocket-Key" enum:"reject,synthesize"`
	MissingVersion string   `yaml:"missing_version" doc:"an HTTP/2 or HTTP/3 handshake without Sec-WebSocket-Version" enum:"repair,reject"`
	PathDots       string   `yaml:"path_dots" doc:"targets with . and .. segments" enum:"refuse,allow"`
	Via            bool     `yaml:"via" doc:"send Via to servers; without it loops are not found"`
	TrustedProxies []string `yaml:"trusted_proxies" doc:"addresses or CIDR ranges whose X-Forwarded-* are believed"`
}

// Drain is how tunnels are ended.
type Drain struct {
	Time   Duration `yaml:"time" doc:"how long a stop may take; 0: tunnels get their Close at once and their own time to answer"`
	Delay  Duration `yaml:"delay" doc:"how long /ready is false before accepting stops"`
	Code   int      `yaml:"code" doc:"Close code, 1000 to 4999" min:"1000" max:"4999"`
	Reason string   `yaml:"reason" doc:"Close reason, at most 123 octets"`
	GOAWAY string   `yaml:"goaway" doc:"graceful: at once; late: on a connection with tunnels only when the last of them has ended, for Firefox drops its sockets on GOAWAY" enum:"graceful,late"`
}

// Reload is when the file is read again.
type Reload struct {
	Watch bool `yaml:"watch" doc:"read this file again when it changes"`
}

// Log is the log.
type Log struct {
	Format string `yaml:"format" doc:"its form" enum:"text,json,off"`
	Level  string `yaml:"level" doc:"what is left out" enum:"debug,info,warn,error"`
}

// Admin is the operator's listener.
type Admin struct {
	Address string `yaml:"address" doc:"host:port; without a host only loopback; off if left out"`
}

func seconds(n int) Duration { return Duration(time.Duration(n) * time.Second) }

// Default returns a Config in which nothing is said: the documented defaults.
func Default() *Config {
	c := new(Config)
	c.setDefaults()
	return c
}

func (c *Config) setDefaults() {
	c.Limits = Limits{Header: 64 << 10, Streams: 250, TunnelsPerConnection: 200, Pending: 1000, TLSHandshakes: 256, BufferMemory: 1 << 30}
	c.Timeouts = Timeouts{
		Header: seconds(10), IdleConnection: seconds(180), Keepalive: seconds(30),
		Idle: seconds(3600), Linger: seconds(30), Stall: seconds(60),
	}
	c.Requests = Requests{WebSocket: true, MissingKey: "reject", MissingVersion: "repair", PathDots: "refuse", Via: true}
	c.Drain = Drain{Time: seconds(30), Code: 1001, GOAWAY: "graceful"}
	c.Log = Log{Format: "text", Level: "info"}
}

// DefaultUpstream returns an Upstream in which nothing is said.
func DefaultUpstream() *Upstream {
	u := new(Upstream)
	u.setDefaults()
	return u
}

func (l *Listener) setDefaults() { l.AltSvc, l.QUIC.RetryAbove = seconds(600), 200 }

func (l *ListenerTLS) setDefaults() { l.MinVersion = "1.2" }

func (u *Upstream) setDefaults() {
	u.Balance, u.Host = "least_tunnels", "client"
	u.DNS.Interval = seconds(10)
	u.Timeouts = UpstreamTimeouts{Connect: seconds(3), TLS: seconds(5), Open: seconds(10), Response: seconds(60), Keepalive: seconds(30)}
	u.Health.Passive = PassiveHealth{Failures: 5, Eject: seconds(10), MaxEject: seconds(300)}
	u.Retry = Retry{Attempts: 3, Budget: 0.2}
	u.Limits.QueueTime = seconds(5)
}

func (s *Server) setDefaults() { s.Weight = 1 }

func (s *Sticky) setDefaults() { s.Cookie, s.Path, s.SameSite = "wsgate", "/", "lax" }

func (h *ActiveHealth) setDefaults() {
	h.Path, h.Interval, h.Timeout, h.Rise, h.Fall = "/", seconds(5), seconds(2), 2, 3
}

func (r *Redirect) setDefaults() { r.Status = 308 }
