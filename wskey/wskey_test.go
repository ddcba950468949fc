package wskey

import (
	"encoding/base64"
	"strings"
	"testing"
)

// The key and its answer of RFC 6455 section 1.3.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func TestAccept(t *testing.T) {
	for _, tc := range []struct{ key, want string }{
		{sampleKey, sampleAccept},
		{"x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="},
	} {
		if got := Accept(tc.key); got != tc.want {
			t.Errorf("Accept(%q): got %q, want %q", tc.key, got, tc.want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		want         bool
	}{
		{"exact", sampleAccept, true},
		{"row 82: white space around it", " \t" + sampleAccept + "\t ", true},
		{"row 79: empty", "", false},
		{"row 80: for another key", "HSmrc0sMlYUkAGmm5OPpG2HaGWk=", false},
		{"row 81: other letter case", strings.ToLower(sampleAccept), false},
		{"without padding", strings.TrimRight(sampleAccept, "="), false},
		{"twice", sampleAccept + "," + sampleAccept, false},
	} {
		if got := Match(tc.answer, sampleKey); got != tc.want {
			t.Errorf("%s: Match(%q): got %v, want %v", tc.name, tc.answer, got, tc.want)
		}
	}
}

func TestValid(t *testing.T) {
	octets := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, tc := range []struct {
		name, key string
		want      bool
	}{
		{"RFC 6455 sample", sampleKey, true},
		{"row 166: empty", "", false},
		{"row 166: 15 octets", octets(15), false},
		{"row 166: 17 octets, 24 characters too", octets(17), false},
		{"row 166: 18 octets, 24 characters too", octets(18), false},
		{"row 166: not base64", "not base64 at all!!!!!==", false},
		{"URL alphabet", "__________________8_-w==", false},
		{"no padding", strings.TrimRight(sampleKey, "="), false},
		{"stray bits behind the last octet", "AAAAAAAAAAAAAAAAAAAAAB==", false},
		{"white space inside", "dGhlIHNhbXBsZSBub25j\r\n==", false},
		{"line end inside", "dGhlIHNhbXBs\nZSBub25jZQ=", false},
		{"white space around it", " " + sampleKey, false},
		{"two keys in one line", sampleKey + ", " + sampleKey, false},
		{"long", strings.Repeat("A", 1<<16), false},
	} {
		if got := Valid(tc.key); got != tc.want {
			t.Errorf("%s: Valid(%.40q): got %v, want %v", tc.name, tc.key, got, tc.want)
		}
	}
}

// Rows 57 and 58.
func TestNewKeysDifferAndAreValid(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		k := New()
		if len(k) != 24 || !Valid(k) {
			t.Fatalf("New: got %q, want 16 octets in base64", k)
		}
		if seen[k] {
			t.Fatalf("New: got %q twice", k)
		}
		seen[k] = true
	}
}

func TestAllocations(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    func()
		want float64
	}{
		{"New", func() { _ = len(New()) }, 2},
		{"Valid", func() { Valid(sampleKey) }, 0},
		{"Match", func() { Match(sampleAccept, sampleKey) }, 0},
	} {
		if got := testing.AllocsPerRun(100, tc.f); got > tc.want {
			t.Errorf("%s: got %v allocations, want at most %v", tc.name, got, tc.want)
		}
	}
}

func FuzzValid(f *testing.F) {
	for _, s := range []string{sampleKey, "", "AAAAAAAAAAAAAAAAAAAAAB==", "\r\n", New()} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		raw, err := base64.StdEncoding.DecodeString(key)
		// Canonical: encoding what was decoded gives the same characters.
		want := err == nil && len(raw) == 16 && base64.StdEncoding.EncodeToString(raw) == key
		if got := Valid(key); got != want {
			t.Errorf("Valid(%q): got %v, want %v", key, got, want)
		}
		if !Match(Accept(key), key) {
			t.Errorf("Match(Accept(%q)): got false, want true", key)
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		New()
	}
}

func BenchmarkMatch(b *testing.B) {
	for b.Loop() {
		Match(sampleAccept, sampleKey)
	}
}

// TestValidAsBase64: whatever octet stands wherever, a key is what the library
// decodes strictly to 16 octets.
func TestValidAsBase64(t *testing.T) {
	for at := range len(sampleKey) {
		for c := range 256 {
			key := []byte(sampleKey)
			key[at] = byte(c)
			nonce, err := base64.StdEncoding.Strict().DecodeString(string(key))
			want := err == nil && len(nonce) == 16 && !strings.ContainsAny(string(key), "\r\n")
			if got := Valid(string(key)); got != want {
				t.Errorf("Valid(%q): got %v, want %v", key, got, want)
			}
		}
	}
}
