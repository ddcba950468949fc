package bridge_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/gorilla/websocket"

	"wsgate/bridge"
	"wsgate/h1"
	"wsgate/internal/loop"
)

// A Bridge stands between a front, which hands over each Offer, and a Service,
// whose Backend opens the far half. Trace is told how each tunnel ended.
func Example() {
	backend := httptest.NewServer(http.HandlerFunc(echo))
	defer backend.Close()
	ended := make(chan *bridge.End, 1)
	tunnels := &bridge.Bridge{Trace: bridge.Trace{Done: func(_ *bridge.Tunnel, e *bridge.End) { ended <- e }}}
	tunnels.Limit(bridge.Limits{MaxTunnels: 1000})
	service := &bridge.Service{
		Backend: &h1.Backend{Address: backend.Listener.Addr().String()},
		Times:   bridge.Times{Idle: time.Hour},
	}
	addr, stop := serve(&h1.Server{Offer: func(o bridge.Offer) { tunnels.Serve(o, service) }})
	defer stop()

	c, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/chat", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	c.WriteMessage(websocket.TextMessage, []byte("hello"))
	c.ReadMessage()
	fmt.Println("open:", tunnels.Stats().Tunnels)

	// A drain sends Close 1001 towards both ends and waits for the last tunnel.
	drained := make(chan error, 1)
	go func() { drained <- tunnels.Drain(context.Background(), bridge.Ending{Time: 100 * time.Millisecond}) }()
	_, _, err = c.ReadMessage() // answers the Close frame
	fmt.Println("client reads:", err)
	c.NetConn().Close()
	e := <-ended
	fmt.Println("drained:", <-drained)
	fmt.Println("ended by", e.By, "because of", e.Why)
	fmt.Println("messages:", e.MessagesUp, "up,", e.MessagesDown, "down")
	// Output:
	// open: 1
	// client reads: websocket: close 1001 (going away)
	// drained: <nil>
	// ended by gateway because of drain
	// messages: 1 up, 1 down
}

// serve accepts connections for front on a loop of its own.
func serve(front *h1.Server) (addr string, stop func()) {
	l, err := loop.New(loop.Config{})
	if err != nil {
		panic(err)
	}
	ended := make(chan bool)
	go func() { l.Run(); close(ended) }()
	lc := loop.ListenConfig(0)
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	addr = ln.Addr().String()
	l.Post(func() {
		l.Accept(ln.(*net.TCPListener), func(a loop.Accepted) {
			if c, err := l.Adopt(a); err == nil {
				front.Serve(l, c, &bridge.Client{Remote: a.RemoteAddr(), Local: c.LocalAddr()})
			}
		}, nil)
	})
	return addr, func() { l.Stop(); <-ended }
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := new(websocket.Upgrader).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, p, err := c.ReadMessage()
		if err != nil {
			return
		}
		c.WriteMessage(kind, p)
	}
}
