package rawpeer

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Note is something that passed on a connection: "->" in front of what its peer
// sent, "<-" of what it received.
type Note struct {
	At   time.Time
	Text string
}

// journal keeps what passed, for failing cases to show.
type journal struct {
	mu    sync.Mutex
	notes []Note
	last  int // octets in the last note, if that is one of octets
}

// keptNotes is how many notes a journal holds; of more the first and the newest
// stay.
const keptNotes = 200

func (j *journal) note(direction, format string, args ...any) {
	at := time.Now()
	text := direction + " " + fmt.Sprintf(format, args...)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = 0
	j.add(Note{at, text})
}

func (j *journal) add(n Note) {
	if len(j.notes) >= keptNotes {
		j.notes = append(j.notes[:20], j.notes[len(j.notes)-keptNotes*3/4:]...)
	}
	j.notes = append(j.notes, n)
}

// octets notes octets that passed; of a long run in one direction a single line
// stays.
func (j *journal) octets(direction string, p []byte) {
	if len(p) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.notes); j.last >= 4096 && strings.HasPrefix(j.notes[n-1].Text, direction+" ") {
		j.last += len(p)
		j.notes[n-1].Text = fmt.Sprintf("%s %d octets", direction, j.last)
		return
	}
	j.last = len(p)
	if len(p) > 512 {
		j.add(Note{time.Now(), fmt.Sprintf("%s %d octets %q…", direction, len(p), p[:160])})
		return
	}
	j.add(Note{time.Now(), fmt.Sprintf("%s %d octets %q", direction, len(p), p)})
}

// Notes returns what passed, oldest first.
func (j *journal) Notes() []Note {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Note(nil), j.notes...)
}

// Lines returns the text of what passed, oldest first.
func (j *journal) Lines() []string {
	notes := j.Notes()
	lines := make([]string, len(notes))
	for i, n := range notes {
		lines[i] = n.Text
	}
	return lines
}

// noted is a reader that notes what it read and how it ended.
type noted struct {
	io.Reader
	j *journal
}

func (n noted) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	n.j.octets("<-", p[:k])
	switch {
	case err == io.EOF:
		n.j.note("<-", "FIN")
	case isReset(err):
		n.j.note("<-", "RST")
	}
	return k, err
}
