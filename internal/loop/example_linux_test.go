package loop_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"wsgate/internal/loop"
)

// echo is the Far of one connection: it writes back what it reads. Want is the
// room for writing, so Data is never handed more than Write takes.
type echo struct{ c *loop.Conn }

func (e echo) Want() int               { return e.c.Room() }
func (e echo) Data(p []byte) int       { return e.c.Write(p) }
func (e echo) End()                    { e.c.CloseWrite() }
func (e echo) Broken(*loop.ResetError) {}
func (e echo) Writable()               { e.c.Resume() }

// An echo server on one loop. Everything after Post runs on the loop.
func Example() {
	l, err := loop.New(loop.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan bool)
	go func() { l.Run(); close(ended) }()
	defer func() { l.Stop(); <-ended }()

	lc := loop.ListenConfig(0)
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	addr := ln.Addr().String()
	l.Post(func() {
		l.Accept(ln.(*net.TCPListener), func(a loop.Accepted) {
			if c, err := l.Adopt(a); err == nil {
				c.Bind(echo{c})
			}
		}, nil)
	})

	client, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Fprint(client, "there and back")
	client.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(client)
	fmt.Printf("%s, %v\n", answer, err)
	// Output: there and back, <nil>
}
