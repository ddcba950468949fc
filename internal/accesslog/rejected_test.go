package accesslog

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"wsgate/bridge"
)

func TestRejectedLine(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "text", slog.LevelInfo)
	l.Rejected(&bridge.Client{Remote: netip.MustParseAddrPort("192.0.2.1:5")}, 2, 501, "unknown-protocol")
	l.Close()
	if got, want := out.String(), `msg="request rejected" client=192.0.2.1:5 http=2 status=501 reason=unknown-protocol`; !strings.Contains(got, want) {
		t.Errorf("got %q, want it to hold %q", got, want)
	}
}
