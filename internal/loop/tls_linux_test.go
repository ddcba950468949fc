package loop

import (
	"crypto/tls"
	"io"
	"testing"
)

func eachVersion(t *testing.T, f func(t *testing.T, version uint16)) {
	t.Run("1.3", func(t *testing.T) { f(t, tls.VersionTLS13) })
	t.Run("1.2", func(t *testing.T) { f(t, tls.VersionTLS12) })
}

func TestTLSEchoWithSlowReader(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, _ := shaken(t, serverConfig(t, version), clientConfig(version))
		on(t, l, func() {
			c, err := l.AdoptTLS(sc, shim)
			if err != nil {
				t.Error(err)
				return
			}
			c.Bind(&echoer{c: c})
		})
		want := pattern(1 << 20)
		go func() {
			cc.Write(want)
			cc.CloseWrite()
		}()
		// The reader takes small pieces, so the echo runs into a full socket.
		var got []byte
		buf := make([]byte, 3000)
		for {
			n, err := cc.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("got %v after %d octets, want EOF", err, len(got))
			}
		}
		same(t, got, want)
	})
}
