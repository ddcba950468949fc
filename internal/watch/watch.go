// Package watch tells when files change.
package watch

import (
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Sum tells what a file holds; that of a file that cannot be read is zero.
type Sum [sha256.Size]byte

// SumOf returns the sum of what was read of a file.
func SumOf(text []byte) Sum { return sha256.Sum256(text) }

// Watcher watches files until Close.
type Watcher struct {
	w     *fsnotify.Watcher
	files map[string]Sum
	quiet time.Duration
	tell  func()
	ended chan struct{}
}

// Files calls tell, on a goroutine of the watcher's own, when what one of the
// files holds has changed and nothing in their folders has moved for the time
// quiet. The sums are of what the caller has read: what changed since then and
// before the call is told as well. Folders are watched and not files: editors
// and configuration managers put a new file, or a new target of a link, in the
// place of the old one.
func Files(files map[string]Sum, quiet time.Duration, tell func()) (*Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	x := &Watcher{w: w, files: maps.Clone(files), quiet: quiet, tell: tell, ended: make(chan struct{})}
	folders := make(map[string]bool)
	for f := range files {
		for _, dir := range foldersOf(f) {
			folders[dir] = true
		}
	}
	for dir := range folders {
		if err := w.Add(dir); err != nil {
			w.Close()
			return nil, err
		}
	}
	go x.run()
	return x, nil
}

// foldersOf are that of the file and that of what it is a link to.
func foldersOf(file string) []string {
	dirs := []string{filepath.Dir(file)}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	return dirs
}

// Close ends the watcher. tell is not called after it has returned.
func (x *Watcher) Close() {
	x.w.Close()
	<-x.ended
}

func (x *Watcher) run() {
	defer close(x.ended)
	timer := time.NewTimer(x.quiet) // of what changed before the folders were watched no event tells
	defer timer.Stop()
	for {
		select {
		case _, ok := <-x.w.Events:
			if !ok {
				return
			}
			timer.Reset(x.quiet)
		case _, ok := <-x.w.Errors:
			if !ok {
				return
			}
			timer.Reset(x.quiet) // events may have been lost
		case <-timer.C:
			x.look()
		}
	}
}

// look tells if the contents have changed.
func (x *Watcher) look() {
	changed := false
	for f, was := range x.files {
		if now := read(f); now != was {
			x.files[f], changed = now, true
		}
	}
	if !changed {
		return
	}
	for f := range x.files { // a link may lead elsewhere now
		for _, dir := range foldersOf(f) {
			_ = x.w.Add(dir) // a folder that is gone is noticed by its parent's file
		}
	}
	x.tell()
}

// read returns the sum of what the file holds now.
func read(file string) Sum {
	p, err := os.ReadFile(file)
	if err != nil {
		return Sum{}
	}
	return SumOf(p)
}
