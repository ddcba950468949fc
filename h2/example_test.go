package h2_test

import (
	"fmt"
	"time"

	"wsgate/bridge"
	"wsgate/h2"
)

// A server is made once; each connection is handed to Serve on its loop, with
// the client's preface still unread.
func Example() {
	counters := new(h2.Counters)
	srv := &h2.Server{
		Offer: func(o bridge.Offer) {
			// Usually bridge.Bridge decides. Here nobody gets in.
			o.Refuse(&bridge.Refusal{Status: 403, Body: []byte("not today\n"), Code: "closed"})
		},
		MaxTunnels:   100,
		IdleTimeout:  time.Minute,
		BufferMemory: h2.NewMemory(256 << 20),
		Counters:     counters,
	}
	// On the loop, for every accepted connection:
	//
	//	srv.Serve(loop, conn, &bridge.Client{Remote: remote, Local: local})
	//
	// and from any goroutine, when the program is to end:
	srv.Drain()
	fmt.Println(srv.Connections(), counters.Connections.Load())
	// Output: 0 0
}
