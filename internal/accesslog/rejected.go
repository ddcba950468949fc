package accesslog

import (
	"log/slog"

	"wsgate/bridge"
)

// Rejected writes the line of a request that a front answered by itself, with
// its major version of HTTP; status 0 means that there was no answer.
func (l *Log) Rejected(c *bridge.Client, major, status int, reason string) {
	l.Info("request rejected", slog.String("client", c.Remote.String()), slog.Int("http", major),
		slog.Int("status", status), slog.String("reason", reason))
}
