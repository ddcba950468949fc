package gateway

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"wsgate/internal/config"
	"wsgate/internal/watch"
)

// quietFiles is how long a folder has to be still before its files are read.
const quietFiles = 200 * time.Millisecond

// follow reads certificates again when their files change, and the
// configuration if it says so. It is a goroutine of the gateway and ends with
// Close.
func (g *Gateway) follow() {
	certificates, whole := make(chan bool, 1), make(chan bool, 1)
	var watched []string
	var watchers []*watch.Watcher
	defer func() {
		for _, w := range watchers {
			w.Close()
		}
	}()
	start := func(files []string, tell chan bool) {
		if len(files) == 0 {
			return
		}
		w, err := watch.Files(files, quietFiles, func() {
			select {
			case tell <- true:
			default:
			}
		})
		if err != nil {
			g.log.Warn("files are not watched", slog.Any("files", files), slog.String("error", err.Error()))
			return
		}
		watchers = append(watchers, w)
	}
	for {
		c := g.routing.Load().config
		if files := certificateFiles(c); watchers == nil || !slices.Equal(files, watched) {
			for _, w := range watchers {
				w.Close()
			}
			watchers = make([]*watch.Watcher, 0, 2)
			start(files, certificates)
			if c.Reload.Watch && g.options.File != "" {
				start([]string{g.options.File}, whole)
			}
			watched = files
		}
		select {
		case <-g.closed:
			return
		case <-certificates:
			_ = g.ReloadCertificates() // logged; the old ones stay
		case <-whole:
			_, _ = g.Reload(context.Background(), false) // logged; the old one stays
		case <-g.reloaded:
		}
	}
}

// certificateFiles are those that listeners show.
func certificateFiles(c *config.Config) []string {
	var out []string
	for i := range c.Certificates {
		if x := &c.Certificates[i]; x.Cert != "" {
			out = append(out, x.Cert, x.Key)
		}
	}
	return out
}
