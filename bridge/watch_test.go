package bridge

import (
	"encoding/binary"
	"testing"
	"unsafe"
)

// frame builds a WebSocket frame for the watch's tests.
func frame(first byte, masked bool, payload []byte) []byte {
	var b []byte
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, bit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, bit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, bit|127), uint64(n))
	}
	if !masked {
		return append(b, payload...)
	}
	key := [4]byte{0xde, 0xad, 0xbe, 0xef}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i&3])
	}
	return b
}

func newWatch(masked bool) (w watch) {
	if masked {
		w.flags = watchMasked
	}
	return w
}

func TestWatchIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(watch{}); got > 16 {
		t.Errorf("size of watch: got %d, want at most 16", got)
	}
}

// TestWatchCounts feeds frames whole, by octet and in pieces of seven.
func TestWatchCounts(t *testing.T) {
	for _, masked := range []bool{false, true} {
		var all []byte
		want := 0
		for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536} {
			all = append(all, frame(0x82, masked, make([]byte, n))...)
			want++
		}
		all = append(all, frame(0x01, masked, []byte("frag"))...)
		all = append(all, frame(0x89, masked, []byte("ping"))...) // a control frame between fragments
		all = append(all, frame(0x80, masked, []byte("ment"))...)
		all = append(all, frame(0xc1, masked, []byte("rsv1"))...)
		want += 2
		for _, size := range []int{1, 7, len(all)} {
			w := newWatch(masked)
			got := 0
			for p := all; len(p) > 0; {
				n := min(size, len(p))
				got += w.feed(p[:n])
				p = p[n:]
			}
			if got != want || !w.boundary() || w.closed() {
				t.Errorf("masked %v, pieces of %d: got %d messages, boundary %v, closed %v; want %d, true, false", masked, size, got, w.boundary(), w.closed(), want)
			}
		}
	}
}

func TestWatchCloseCode(t *testing.T) {
	for _, c := range []struct {
		payload []byte
		want    int
	}{{nil, 1005}, {[]byte{0x03, 0xe8}, 1000}, {[]byte("\x0f\xa1bye"), 4001}} {
		for _, masked := range []bool{false, true} {
			for _, size := range []int{1, 100} {
				w := newWatch(masked)
				p := frame(0x88, masked, c.payload)
				if w.closeCode() != 0 {
					t.Fatalf("code before a Close: got %d, want 0", w.closeCode())
				}
				for len(p) > 0 {
					n := min(size, len(p))
					w.feed(p[:n])
					p = p[n:]
				}
				if got := w.closeCode(); got != c.want || !w.closed() || !w.boundary() {
					t.Errorf("close %q masked %v pieces of %d: got code %d, closed %v, boundary %v; want %d, true, true", c.payload, masked, size, got, w.closed(), w.boundary(), c.want)
				}
			}
		}
	}
}

// TestWatchKeepsFirstCode: a second Close frame does not change the code.
func TestWatchKeepsFirstCode(t *testing.T) {
	w := newWatch(true)
	w.feed(frame(0x88, true, []byte{0x03, 0xe8}))
	w.feed(frame(0x88, true, []byte{0x0f, 0xa1}))
	if got := w.closeCode(); got != 1000 {
		t.Errorf("close code: got %d, want 1000", got)
	}
}

func TestWatchUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		masked bool
		p      []byte
	}{
		"reserved opcode 3":  {false, []byte{0x83, 0}},
		"reserved opcode 15": {false, []byte{0x8f, 0}},
		"masked server":      {false, frame(0x81, true, []byte("x"))},
		"unmasked client":    {true, frame(0x81, false, []byte("x"))},
		"64-bit high bit":    {false, []byte{0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1}},
		"text":               {false, []byte("text that is no frame")},
	} {
		w := newWatch(c.masked)
		w.feed(c.p)
		if !w.unknown() || w.boundary() {
			t.Errorf("%s: got unknown %v, boundary %v; want true, false", name, w.unknown(), w.boundary())
		}
		w.feed(frame(0x81, c.masked, []byte("ok")))
		if !w.unknown() {
			t.Errorf("%s: the watch came back", name)
		}
	}
}

func TestWatchToBoundary(t *testing.T) {
	w := newWatch(false)
	p := append(frame(0x81, false, []byte("hello")), frame(0x82, false, []byte("x"))...)
	w.feed(p[:3])
	if n, ok := w.toBoundary(p[3:]); n != 4 || !ok {
		t.Errorf("to boundary: got %d %v, want 4 true", n, ok)
	}
	if n, ok := w.toBoundary(p[3:5]); n != 2 || ok {
		t.Errorf("to boundary in a short piece: got %d %v, want 2 false", n, ok)
	}
}

func FuzzWatch(f *testing.F) {
	f.Add(frame(0x81, false, []byte("hello")), false, uint8(3))
	f.Add(frame(0x88, true, []byte{0x03, 0xe8, 'x'}), true, uint8(1))
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, false, uint8(2))
	f.Fuzz(func(t *testing.T, p []byte, masked bool, size uint8) {
		whole, parts := newWatch(masked), newWatch(masked)
		m1 := whole.feed(p)
		m2 := 0
		for q := p; len(q) > 0; {
			n := min(int(size)+1, len(q))
			m2 += parts.feed(q[:n])
			q = q[n:]
		}
		if whole.unknown() && parts.unknown() {
			whole, parts = watch{}, watch{} // where it was lost does not matter
		}
		if m1 != m2 || whole != parts {
			t.Errorf("fed whole: %d messages, %+v; in pieces of %d: %d messages, %+v", m1, whole, size, m2, parts)
		}
		for q, w := p, newWatch(masked); len(q) > 0; {
			n, _ := w.toBoundary(q)
			if n < 1 || n > len(q) {
				t.Fatalf("to boundary: got %d of %d octets", n, len(q))
			}
			w.feed(q[:n])
			q = q[n:]
		}
	})
}

func BenchmarkWatch64(b *testing.B) {
	w := newWatch(true)
	p := frame(0x82, true, make([]byte, 64))
	b.ReportAllocs()
	for b.Loop() {
		w.feed(p)
	}
}
