package e2e

import (
	"testing"

	"wsgate/internal/rawpeer"
)

// h3 connects by HTTP/3.
func (r *rig) h3(settings ...rawpeer.H3Setting) *rawpeer.H3 {
	r.t.Helper()
	c, err := rawpeer.DialH3(r.https, clientTLS, settings...)
	r.must(err)
	r.t.Cleanup(c.Close)
	return c
}

// tunnel3 opens a tunnel over HTTP/3 with its backend connection.
func (r *rig) tunnel3(c *rawpeer.H3, more ...rawpeer.Field) (int64, *rawpeer.BackendConn) {
	r.t.Helper()
	id := c.Connect("/chat", more...)
	b := r.next()
	_, err := b.AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus(id, 200)
	r.must(err)
	return id, b
}

// TestH3Tunnel: a tunnel over HTTP/3 carries octets and ends (RFC 9220 section 3;
// rows 138, 147 to 150, 152).
func TestH3Tunnel(t *testing.T) {
	r := start(t, nil)
	c := r.h3()
	if v, _ := c.Setting(0x08); v != 1 {
		t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL: got %d, want 1", v)
	}
	id, b := r.tunnel3(c)
	r.check("up", c.Data(id, []byte("hello"), false))
	r.check("at the backend", b.WantBytes([]byte("hello")))
	r.check("an unknown frame", c.Frame(id, 0x21, []byte("grease")))
	r.check("down", b.Write([]byte("world")))
	r.check("at the client", c.WantData(id, []byte("world")))
	r.check("client's end", c.End(id))
	r.check("backend's end", b.WantFIN())
	r.check("down after the client's end", b.Write([]byte("more")))
	r.check("at the client", c.WantData(id, []byte("more")))
	r.must(b.CloseWrite())
	r.check("the end", c.WantEnd(id))

	id, b = r.tunnel3(c)
	r.must(b.CloseWrite())
	r.check("backend's FIN", c.WantEnd(id))
	r.check("up after the backend's end", c.Data(id, []byte("late"), true))
	r.check("at the backend", b.WantBytes([]byte("late")))
	r.check("client's end", b.WantFIN())

	id, b = r.tunnel3(c)
	b.Reset()
	r.check("backend's RST (row 148)", c.WantReset(id, 0x10c))
	r.check("backend's RST (row 148)", c.WantStop(id, 0x10c))

	id, b = r.tunnel3(c)
	c.ResetStream(id, 0x10c)
	r.check("client's RESET_STREAM (row 149)", b.WantRST())
	id, b = r.tunnel3(c)
	c.StopSending(id, 0x10c)
	r.check("client's STOP_SENDING (row 149)", b.WantRST())
	r.check("the connection lives", c.WantAlive())
}
