package loop

import (
	"io"
	"testing"
)

const keyUpdateReply = "\x18\x00\x00\x01\x00"

func TestTLSKeyUpdateIsAnswered(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	adoptEcho(t, l, sc, shim)
	w.Write(w.send.record(typeData, []byte("before")))
	w.want(t, typeData, "before")
	w.Write(w.keyUpdate(1)) // on its own: the reply must not wait for a Write
	w.want(t, typeHandshake, keyUpdateReply)
	w.recv.update()
	w.Write(w.send.record(typeData, []byte("after")))
	w.want(t, typeData, "after")
	// Glued to data on both sides, twice; and one that asks for nothing.
	p := w.send.record(typeData, []byte("one"))
	p = append(p, w.keyUpdate(1)...)
	p = append(p, w.send.record(typeData, []byte("two"))...)
	p = append(p, w.keyUpdate(1)...)
	p = append(p, w.keyUpdate(0)...)
	p = append(p, w.send.record(typeData, []byte("three"))...)
	w.Write(p)
	got, updates := "", 0
	for got != "onetwothree" {
		kind, data, err := w.next()
		switch {
		case err != nil:
			t.Fatalf("got %v after %q, want every record to open", err, got)
		case kind == typeHandshake:
			updates++
			w.recv.update()
		default:
			got += string(data)
		}
	}
	if updates != 2 {
		t.Errorf("got %d replies, want 2", updates)
	}
}

// A peer that asks for replies and does not read: the replies queue in order
// behind the output, up to a bound, and all records open afterwards.
func TestTLSKeyUpdatesWhileOutputWaits(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	sent := pattern(8 << 20)
	on(t, l, func() {
		o.pump(sent)
		if o.c.Room() != 0 {
			t.Error("got room, want a full socket")
		}
	})
	const asks = 6000
	writer := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < asks && err == nil; i++ {
			_, err = w.Write(append(w.keyUpdate(1), w.send.record(typeData, []byte{'x'})...))
		}
		writer <- err
	}()
	until(t, l, "choked connection", func() bool { return shim.full() })
	turns(t, l, 20)
	on(t, l, func() {
		if n := len(o.c.owed.buf); n > chokeAt+1024 {
			t.Errorf("got %d octets of output kept, want at most about %d", n, chokeAt)
		}
	})
	var got []byte
	updates := 0
	for len(got) < len(sent) || updates < asks {
		kind, data, err := w.next()
		if err != nil {
			t.Fatalf("got %v after %d octets and %d updates, want every record to open", err, len(got), updates)
		}
		switch {
		case kind == typeHandshake:
			updates++
			w.recv.update()
		case kind == typeData:
			got = append(got, data...)
		default:
			// Our close_notify ends the replies with our direction.
			if string(data) != "\x01\x00" || len(got) < len(sent) {
				t.Fatalf("got alert %x after %d octets, want close_notify behind all", data, len(got))
			}
			updates = asks
		}
	}
	same(t, got, sent)
	if err := await(t, writer, "the writer"); err != nil {
		t.Error(err)
	}
	until(t, l, "data", func() bool { return o.got.Len() == asks })
}

func TestTLSRepliesStopBehindOurCloseNotify(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	on(t, l, o.c.CloseWrite)
	w.want(t, typeAlert, "\x01\x00")
	w.Write(append(w.keyUpdate(1), w.send.record(typeData, []byte("still here"))...))
	until(t, l, "data", func() bool { return o.got.String() == "still here" })
	w.Write(w.send.record(typeAlert, []byte{1, 0}))
	w.CloseWrite()
	empty(t, l)
	story(t, l, o, "data end")
	if _, _, err := w.next(); err != io.EOF {
		t.Errorf("got %v, want FIN right behind close_notify", err)
	}
}
