package gateway

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"wsgate/internal/watch"
)

// quietFiles is how long a folder has to be still before its files are read.
const quietFiles = 200 * time.Millisecond

// follow reads certificates again when their files change, and the
// configuration if it says so. It is a goroutine of the gateway and ends with
// Close.
func (g *Gateway) follow() {
	certificates, whole := make(chan bool, 1), make(chan bool, 1)
	var watched map[string]watch.Sum
	var watchers []*watch.Watcher
	defer func() {
		for _, w := range watchers {
			w.Close()
		}
	}()
	start := func(files map[string]watch.Sum, tell chan bool) {
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
			g.log.Warn("files are not watched", slog.Any("files", slices.Sorted(maps.Keys(files))), slog.String("error", err.Error()))
			return
		}
		watchers = append(watchers, w)
	}
	for {
		r := g.routing.Load()
		if watchers == nil || !sameFiles(r.certs.files, watched) {
			for _, w := range watchers {
				w.Close()
			}
			watchers = make([]*watch.Watcher, 0, 2)
			start(r.certs.files, certificates)
			if r.config.Reload.Watch && g.options.File != "" {
				start(map[string]watch.Sum{g.options.File: watch.SumOf(r.config.Text())}, whole)
			}
			watched = r.certs.files
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

func sameFiles(a, b map[string]watch.Sum) bool {
	return maps.EqualFunc(a, b, func(watch.Sum, watch.Sum) bool { return true })
}
