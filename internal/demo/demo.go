// Package demo is the backend behind `wsgate demo`: an echo and a chat server
// that know HTTP/1.1 only, made with gorilla/websocket, and a page that talks
// to them.
package demo

import (
	_ "embed"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

//go:embed page.html
var page []byte

// Backend serves "/", "/echo", "/chat", "/version" and "/refuse". Its methods
// may be called from any goroutine.
type Backend struct {
	server *http.Server
	room   room
}

// Serve serves ln, HTTP/1.1 only, until Close.
func (b *Backend) Serve(ln net.Listener) error { return b.server.Serve(ln) }

// Close ends the server and its sockets.
func (b *Backend) Close() { b.server.Close() }

// New makes the backend.
func New() *Backend {
	b := &Backend{room: room{members: make(map[*member]bool)}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(carrier(r))) })
	mux.HandleFunc("GET /refuse", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no sockets here", http.StatusForbidden) })
	mux.HandleFunc("GET /echo", b.echo)
	mux.HandleFunc("GET /chat", b.chat)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	b.server = &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
	return b
}

// carrier says which HTTP version brought a request to the gateway, by the last
// element of Via.
func carrier(r *http.Request) string {
	lines := r.Header["Via"]
	if len(lines) == 0 {
		return "HTTP/1.1"
	}
	via := lines[len(lines)-1]
	via = strings.TrimSpace(via[strings.LastIndexByte(via, ',')+1:])
	version, _, _ := strings.Cut(via, " ")
	return "HTTP/" + version
}

var upgrader = websocket.Upgrader{
	Subprotocols: []string{"demo"}, EnableCompression: true,
	CheckOrigin: func(*http.Request) bool { return true }, // a demo on loopback
}

// echo sends every message back. The first message says which HTTP version
// carried the handshake; with ?quiet there is none. "close 4001" closes so.
func (b *Backend) echo(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetReadLimit(16 << 20)
	if !r.URL.Query().Has("quiet") {
		c.WriteMessage(websocket.TextMessage, []byte("carried by "+carrier(r)))
	}
	for {
		kind, p, err := c.ReadMessage()
		if err != nil {
			return
		}
		if string(p) == "close 4001" {
			c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "as you wish"), time.Now().Add(time.Second))
			c.ReadMessage() // the answer
			return
		}
		if c.WriteMessage(kind, p) != nil {
			return
		}
	}
}

// room is all who chat.
type room struct {
	mu      sync.Mutex
	members map[*member]bool
}

type member struct{ out chan []byte }

func (r *room) enter(m *member) { r.mu.Lock(); r.members[m] = true; r.mu.Unlock() }

func (r *room) leave(m *member) {
	r.mu.Lock()
	delete(r.members, m)
	close(m.out)
	r.mu.Unlock()
}

// say sends p to everyone; who does not read misses it.
func (r *room) say(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m := range r.members {
		select {
		case m.out <- p:
		default:
		}
	}
}

func (b *Backend) chat(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	m := &member{out: make(chan []byte, 16)}
	b.room.enter(m)
	go m.write(c)
	b.room.say([]byte("someone came by " + carrier(r)))
	for {
		_, p, err := c.ReadMessage()
		if err != nil {
			break
		}
		b.room.say(p)
	}
	b.room.leave(m)
	b.room.say([]byte("someone left"))
}

// write is a member's writer; it ends when the member has left.
func (m *member) write(c *websocket.Conn) {
	defer c.Close()
	for p := range m.out {
		if c.WriteMessage(websocket.TextMessage, p) != nil {
			return
		}
	}
}
