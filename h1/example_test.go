package h1_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/gorilla/websocket"

	"wsgate/bridge"
	"wsgate/h1"
	"wsgate/internal/exchange"
	"wsgate/internal/loop"
)

// A gateway in one function: HTTP/1.1 in front, one HTTP/1.1 backend behind, a
// bridge between them, ordinary requests served by a handler.
func Example() {
	backend := httptest.NewServer(http.HandlerFunc(echo))
	defer backend.Close()

	tunnels := new(bridge.Bridge)
	service := &bridge.Service{Backend: &h1.Backend{Address: backend.Listener.Addr().String()}}
	front := &h1.Server{
		Offer: func(o bridge.Offer) { tunnels.Serve(o, service) },
		Exchange: &exchange.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		})},
	}
	addr, stop := serve(front)
	defer stop()

	c, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/chat", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	c.WriteMessage(websocket.TextMessage, []byte("hello"))
	_, p, _ := c.ReadMessage()
	fmt.Printf("tunnel: %s\n", p)
	c.Close()

	res, err := http.Get("http://" + addr + "/page")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, _ = io.ReadAll(res.Body)
	res.Body.Close()
	fmt.Printf("request: %s\n", p)
	// Output:
	// tunnel: hello
	// request: you asked for /page
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

// What a backend says instead of 101 comes as a *bridge.Refusal.
func ExampleBackend() {
	backend := httptest.NewServer(http.NotFoundHandler())
	defer backend.Close()
	b := &h1.Backend{Address: backend.Listener.Addr().String()}

	l, err := loop.New(loop.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan bool)
	go func() { l.Run(); close(ended) }()
	defer func() { l.Stop(); <-ended }()

	answer := make(chan error)
	l.Post(func() {
		h := &bridge.Handshake{Major: 2, Scheme: "https", Authority: "example.com", Path: "/chat"}
		b.Open(l, h, func(_ bridge.Side, _ bridge.Fields, err error) {
			if r, ok := err.(*bridge.Refusal); ok && r.Stream != nil {
				r.Stream.Reset(bridge.ReasonUnknown) // its content is not wanted
			}
			go func() { answer <- err }()
		})
	})
	if r, ok := (<-answer).(*bridge.Refusal); ok {
		fmt.Println(r.Status, r.Foreign)
	}
	// Output: 404 true
}
