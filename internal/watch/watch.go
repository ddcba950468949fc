// Package watch tells when files change.
package watch

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher watches files until Close.
type Watcher struct {
	w     *fsnotify.Watcher
	files []string
	sums  [][]byte
	quiet time.Duration
	tell  func()
	ended chan struct{}
}

// Files calls tell, on a goroutine of the watcher's own, when what one of the
// files holds has changed and nothing in their folders has moved for the time
// quiet. Folders are watched and not files: editors and configuration managers
// put a new file, or a new target of a link, in the place of the old one.
func Files(files []string, quiet time.Duration, tell func()) (*Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	x := &Watcher{w: w, files: files, quiet: quiet, tell: tell, ended: make(chan struct{})}
	folders := make(map[string]bool)
	for _, f := range files {
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
	x.sums = x.read()
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
	timer := time.NewTimer(time.Hour)
	timer.Stop()
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
	now := x.read()
	changed := false
	for i := range now {
		changed = changed || !bytes.Equal(now[i], x.sums[i])
	}
	if !changed {
		return
	}
	x.sums = now
	for _, f := range x.files { // a link may lead elsewhere now
		for _, dir := range foldersOf(f) {
			_ = x.w.Add(dir) // a folder that is gone is noticed by its parent's file
		}
	}
	x.tell()
}

// read returns a sum of each file, nil for one that cannot be read.
func (x *Watcher) read() [][]byte {
	out := make([][]byte, len(x.files))
	for i, f := range x.files {
		if p, err := os.ReadFile(f); err == nil {
			sum := sha256.Sum256(p)
			out[i] = sum[:]
		}
	}
	return out
}
