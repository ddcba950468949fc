package loop

import "testing"

func TestPlainEcho(t *testing.T) {
	l := newLoop(t)
	ours, peer := pipe(t)
	on(t, l, func() {
		c, err := l.AdoptTCP(ours)
		if err != nil {
			t.Error(err)
			return
		}
		c.Bind(&echoer{c: c})
	})
	want := pattern(1 << 20)
	go func() {
		peer.Write(want)
		peer.CloseWrite()
	}()
	same(t, readAll(t, peer), want)
	until(t, l, "closed socket", func() bool { return l.entries == 0 })
}
